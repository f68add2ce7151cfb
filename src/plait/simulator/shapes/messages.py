"""POST /v1/messages, as Anthropic answers."""

from __future__ import annotations

import json

from plait.simulator.answers import Answer, Reply, Usage
from plait.simulator.behaviours import Body
from plait.simulator.shapes.parts import Stream, event, to_json, token_events


def plain(reply: Reply) -> bytes:
    """A message."""
    content: list[Body] = [{"type": "text", "text": reply.answer.text}]
    if reply.answer.tool_calls:
        content = _calls(reply)
    ended = {"content": content, "stop_reason": _reason(reply.answer)}
    return to_json({**_message(reply), **ended, "usage": _usage(reply.usage, reply.usage.completion)})


def stream(reply: Reply) -> Stream:
    """message_start, content blocks, message_delta with the usage, message_stop."""

    def named(kind: str, **fields: object) -> bytes:
        return event({"type": kind, **fields}, kind)

    head = named("message_start", message={**_message(reply), "usage": _usage(reply.usage, 0)})
    if reply.answer.tool_calls:
        pieces = [
            named("content_block_start", index=index, content_block={**call, "input": {}})
            + named("content_block_delta", index=index, delta=_arguments(call["input"]))
            + named("content_block_stop", index=index)
            for index, call in enumerate(_calls(reply))
        ]
        tail = b""
    else:
        head += named("content_block_start", index=0, content_block={"type": "text", "text": ""})
        pieces = token_events(
            lambda piece: named("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}),
            reply.answer.text,
        )
        tail = named("content_block_stop", index=0)
    ended = {"stop_reason": _reason(reply.answer), "stop_sequence": None}
    tail += named("message_delta", delta=ended, usage=_usage(reply.usage, reply.usage.completion))
    return Stream(head, pieces, tail + named("message_stop"))


def _message(reply: Reply) -> Body:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.body.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _calls(reply: Reply) -> list[Body]:
    return [
        {"type": "tool_use", "id": f"toolu_{reply.id}_{index}", "name": name, "input": arguments}
        for index, (name, arguments) in enumerate(reply.answer.tool_calls)
    ]


def _arguments(found: Body) -> Body:
    return {"type": "input_json_delta", "partial_json": json.dumps(found)}


def _reason(answer: Answer) -> str:
    return "tool_use" if answer.tool_calls else "max_tokens" if answer.cut else "end_turn"


def _usage(usage: Usage, output: int) -> Body:
    # Anthropic's input_tokens are those that were not read from the cache.
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": output,
    }
