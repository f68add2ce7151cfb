"""Which chunks of a stream ChatOpenAI makes into what, as far as that takes no model of the SDK's."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.base import TextAccessor
from langchain_core.outputs import ChatGenerationChunk


def text_of(event: dict[str, Any]) -> tuple[str, dict[str, Any] | None] | None:
    """The text and generation info of a chunk that holds text or an end and nothing else; None for others."""
    choices = event.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or event.get("usage") or "type" in event:
        return None
    choice = choices[0]
    if not isinstance(choice, dict) or choice.get("logprobs") or not isinstance(delta := choice.get("delta"), dict):
        return None
    content = delta.get("content") or ""
    if (
        not isinstance(content, str)
        or delta.get("role", "assistant") not in (None, "assistant")
        or delta.get("tool_calls")
        or delta.get("function_call")
        or "id" in delta
    ):
        return None
    info = None
    if reason := choice.get("finish_reason"):
        info = {"finish_reason": reason}
        for name, key in _INFO:
            if value := event.get(key):
                info[name] = value
    return content, info


_INFO = (("model_name", "model"), ("system_fingerprint", "system_fingerprint"), ("service_tier", "service_tier"))


def is_regular(event: dict[str, Any]) -> bool:
    """Whether the SDK's model would dump what ChatOpenAI looks at as it came."""
    choices, usage = event.get("choices"), event.get("usage")
    if not isinstance(choices, list) or len(choices) > 1:
        return False
    if usage is not None and not (
        isinstance(usage, dict)
        and isinstance(usage.get("prompt_tokens_details"), dict | None)
        and isinstance(usage.get("completion_tokens_details"), dict | None)
    ):
        return False
    return all(
        isinstance(choice, dict)
        and not choice.get("logprobs")
        and isinstance(delta := choice.get("delta"), dict)
        and isinstance(delta.get("content"), str | None)
        and not delta.get("function_call")
        and isinstance(calls := delta.get("tool_calls"), list | None)
        and all(_is_regular_call(call) for call in calls or ())
        for choice in choices
    )


def _is_regular_call(call: object) -> bool:
    return isinstance(call, dict) and "index" in call and isinstance(call.get("function"), dict)


_MESSAGE = AIMessageChunk(content="", additional_kwargs={}, id=None, tool_call_chunks=[])
_GENERATION = ChatGenerationChunk(message=_MESSAGE, generation_info=None)
_MESSAGE_FIELDS = _MESSAGE.__getstate__()["__dict__"]
_GENERATION_FIELDS = _GENERATION.__getstate__()["__dict__"]


class TextChunks:
    """Makes chunks as their constructors make them, whose checks take ten times as long; their state is unpickled.

    The sets of fields that were given, which pydantic keeps for `exclude_unset`, are the same for all texts of a
    stream: nearly half of what each would take until the answer ends.
    """

    def __init__(self) -> None:
        self._message_set = _MESSAGE.model_fields_set.copy()
        self._generation_set = _GENERATION.model_fields_set.copy()

    def make(self, content: str, info: dict[str, Any] | None) -> ChatGenerationChunk:
        fields = _MESSAGE_FIELDS.copy()
        fields["content"] = content
        fields["additional_kwargs"] = {}
        fields["response_metadata"] = {"model_provider": "openai"}
        fields["tool_calls"] = []
        fields["invalid_tool_calls"] = []
        fields["tool_call_chunks"] = []
        message = AIMessageChunk.__new__(AIMessageChunk)
        message.__setstate__(
            {
                "__dict__": fields,
                "__pydantic_fields_set__": self._message_set,
                "__pydantic_extra__": {},
                "__pydantic_private__": None,
            }
        )
        fields = _GENERATION_FIELDS.copy()
        fields["text"] = TextAccessor(content)
        fields["generation_info"] = info
        fields["message"] = message
        generation = ChatGenerationChunk.__new__(ChatGenerationChunk)
        generation.__setstate__(
            {
                "__dict__": fields,
                "__pydantic_fields_set__": self._generation_set,
                "__pydantic_extra__": None,
                "__pydantic_private__": None,
            }
        )
        return generation
