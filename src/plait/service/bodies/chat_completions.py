"""What `/v1/chat/completions` and `/v1/models` read and answer, as OpenAI's API has it.

The fields are those of https://platform.openai.com/docs/api-reference/chat. What shapes a model's answer (temperature,
max_tokens, ...) is taken and has no effect: a workflow sets up its own calls. What asks for something else than a text
(tools, several choices, a schema) is refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

WITHOUT_EFFECT = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "temperature",
        "top_p",
        "user",
        "verbosity",
    }
)
"""Parameters of a model's answer, or of OpenAI's accounts."""

_EXAMPLE: JsonDict = {"model": "story", "messages": [{"role": "user", "content": "a magical forest"}]}


_NEUTRAL: dict[str, tuple[JsonValue, ...]] = {
    "n": (1,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "stop": ([],),
}
"""Values that ask for nothing."""

_ONE_TEXT = "a workflow answers with one text"
_REFUSED = {
    "n": "a workflow gives one answer: send several requests",
    "tools": "a workflow calls its own tools",
    "functions": "a workflow calls its own tools",
    "tool_choice": "a workflow calls its own tools",
    "function_call": "a workflow calls its own tools",
    "response_format": "a workflow's answer has the form that the workflow gives it",
    "modalities": _ONE_TEXT,
    "audio": _ONE_TEXT,
    "logprobs": _ONE_TEXT,
    "top_logprobs": _ONE_TEXT,
    "stop": "a workflow's answer ends where the workflow ends it",
    "prediction": "a workflow makes its own calls",
    "web_search_options": "a workflow makes its own searches",
}


def _document(schema: JsonDict) -> None:
    """Name the parameters that are taken for the sake of clients, and say that there are no others."""
    ignored: JsonDict = {name: {"description": "Has no effect."} for name in sorted(WITHOUT_EFFECT)}
    alone: JsonDict = {
        name: {"enum": [*_NEUTRAL.get(name, ()), None], "description": f"{why[0].upper()}{why[1:]}."}
        for name, why in _REFUSED.items()
    }
    properties = schema["properties"]
    assert isinstance(properties, dict)
    schema["properties"] = {**properties, **alone, **ignored}
    schema["additionalProperties"] = False
    schema["examples"] = [_EXAMPLE]


class StreamOptions(BaseModel):
    """What a stream holds besides the answer."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class ChatCompletionBody(BaseModel):
    """A chat completion to be made by a workflow."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_document)

    model: Annotated[str, Field(min_length=1, max_length=200, description="The workflow's name.")]
    messages: Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=10_000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    inputs: Annotated[
        dict[str, JsonValue] | None,
        Field(default=None, description="plait: the workflow's inputs by name, instead of the messages."),
    ]
    context: Annotated[
        dict[str, JsonValue] | None, Field(default=None, description="plait: values of the workflow's context.")
    ]

    def refused(self) -> tuple[str, str] | None:
        """The first parameter that cannot be obeyed, and why; None where all can."""
        for name, value in (self.model_extra or {}).items():
            if name in WITHOUT_EFFECT or value is None or value in _NEUTRAL.get(name, ()):
                continue
            why = _REFUSED.get(name, "it is no parameter of this endpoint")
            return name, why
        return None


class ChatError(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ChatProblem(BaseModel):
    """The body of an answer that is an error, as OpenAI's clients read it."""

    error: ChatError


class AnswerMessage(BaseModel):
    """What the workflow says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(BaseModel):
    """The one answer."""

    index: int
    message: AnswerMessage
    finish_reason: Literal["stop"]
    logprobs: None


class TokenDetails(BaseModel):
    """Of the prompts' tokens."""

    cached_tokens: int


class ChatUsage(BaseModel):
    """Tokens of all model calls of the run."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: Annotated[str, Field(description="`chatcmpl-` and the run's id.")]
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage


class Model(BaseModel):
    """A workflow as a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """All workflows as models."""

    object: Literal["list"]
    data: list[Model]
