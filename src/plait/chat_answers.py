"""Which answers of a chat completion are ordinary, and what the SDK's models would make of those."""

from __future__ import annotations

from typing import Any, TypeGuard

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

# The SDK's models have every field, None where the answer has none, and ChatOpenAI's result shows it.
_ANSWER: dict[str, Any] = dict.fromkeys(ChatCompletion.model_fields)
_CHOICE: dict[str, Any] = dict.fromkeys(Choice.model_fields)
_USAGE: dict[str, Any] = dict.fromkeys(CompletionUsage.model_fields)
_DETAILS: dict[str, dict[str, Any]] = {
    "prompt_tokens_details": dict.fromkeys(PromptTokensDetails.model_fields),
    "completion_tokens_details": dict.fromkeys(CompletionTokensDetails.model_fields),
}


def plain_answer(answer: object) -> dict[str, Any] | None:
    """The dict that the SDK's `ChatCompletion` would dump, as far as ChatOpenAI looks at it.

    None for what is no answer of text or function calls: the SDK's models say what becomes of the rest (log
    probabilities, audio, custom tools, fields of unexpected types).
    """
    if not isinstance(answer, dict) or not isinstance(choices := answer.get("choices"), list) or not choices:
        return None
    if not all(_is_plain(choice) for choice in choices):
        return None
    usage = answer.get("usage")
    if usage is not None and (usage := _whole_usage(usage)) is None:
        return None
    return {**_ANSWER, **answer, "choices": [{**_CHOICE, **choice} for choice in choices], "usage": usage}


def is_text_chunk(event: object) -> TypeGuard[dict[str, Any]]:
    """Whether a streamed chunk has text, an end or a usage only: ChatOpenAI reads it as it came then."""
    if not isinstance(event, dict) or not isinstance(choices := event.get("choices"), list):
        return False
    usage = event.get("usage")
    if usage is not None and (not isinstance(usage, dict) or _whole_usage(usage) is None):
        return False
    return all(
        isinstance(choice, dict)
        and isinstance(delta := choice.get("delta"), dict)
        and isinstance(delta.get("content"), str | None)
        and not (delta.get("tool_calls") or delta.get("function_call") or choice.get("logprobs"))
        for choice in choices
    )


def _is_plain(choice: object) -> bool:
    if not isinstance(choice, dict) or choice.get("logprobs") or not isinstance(message := choice.get("message"), dict):
        return False
    return (
        message.get("role") == "assistant"
        and isinstance(message.get("content"), str | None)
        and not (message.get("audio") or message.get("function_call") or "parsed" in message)
        and all(_is_function_call(call) for call in message.get("tool_calls") or ())
    )


def _is_function_call(call: object) -> bool:
    if not isinstance(call, dict) or call.get("type") != "function" or "id" not in call:
        return False
    function = call.get("function")
    return (
        isinstance(function, dict)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments"), str)
    )


def _whole_usage(usage: object) -> dict[str, Any] | None:
    if not isinstance(usage, dict):
        return None
    whole = {**_USAGE, **usage}
    for name, fields in _DETAILS.items():
        details = whole[name]
        if isinstance(details, dict):
            whole[name] = {**fields, **details}
        elif details is not None:
            return None
    return whole
