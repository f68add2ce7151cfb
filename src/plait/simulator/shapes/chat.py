"""POST /v1/chat/completions."""

from __future__ import annotations

import json

from plait.simulator.answers import Answer, Reply, Usage
from plait.simulator.behaviours import Body
from plait.simulator.shapes.parts import Stream, event, to_json, token_events


def plain(reply: Reply) -> bytes:
    """A chat.completion."""
    calls = _calls(reply)
    message: Body = {"role": "assistant", "content": None if calls else reply.answer.text}
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": _reason(reply.answer)}
    return to_json({**_begun(reply, "chat.completion"), "choices": [choice], "usage": _usage(reply.usage)})


def stream(reply: Reply) -> Stream:
    """chat.completion.chunks, the last with the usage where `stream_options` asks for it."""
    begun = _begun(reply, "chat.completion.chunk")

    def delta(content: Body, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": content, "finish_reason": finish_reason}
        return event({**begun, "choices": [choice], "usage": None})

    tail = delta({}, _reason(reply.answer))
    if (reply.body.get("stream_options") or {}).get("include_usage"):
        tail += event({**begun, "choices": [], "usage": _usage(reply.usage)})
    return Stream(
        head=delta({"role": "assistant", "content": ""}),
        pieces=[
            *token_events(lambda piece: delta({"content": piece}), reply.answer.text),
            *(delta({"tool_calls": [{"index": index, **call}]}) for index, call in enumerate(_calls(reply))),
        ],
        tail=tail + b"data: [DONE]\n\n",
    )


def _begun(reply: Reply, kind: str) -> Body:
    return {
        "id": f"chatcmpl-{reply.id}",
        "object": kind,
        "created": reply.created,
        "model": reply.body.get("model"),
    }


def _calls(reply: Reply) -> list[Body]:
    return [
        {
            "id": f"call_{reply.id}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, (name, arguments) in enumerate(reply.answer.tool_calls)
    ]


def _reason(answer: Answer) -> str:
    return "tool_calls" if answer.tool_calls else "length" if answer.cut else "stop"


def _usage(usage: Usage) -> Body:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
