"""POST /v1/responses."""

from __future__ import annotations

import json
from itertools import count

from plait.simulator.answers import Reply, Usage, pieces_of
from plait.simulator.behaviours import Body, ToolCall
from plait.simulator.shapes.parts import Stream, event, to_json


def plain(reply: Reply) -> bytes:
    """A Response."""
    return to_json(_response(reply, ended=True))


def stream(reply: Reply) -> Stream:
    """response.* events, numbered, from `created` to `completed` (`incomplete` where max_tokens was reached)."""
    numbers = count()

    def numbered(kind: str, **fields: object) -> bytes:
        name = f"response.{kind}"
        return event({"type": name, "sequence_number": next(numbers), **fields}, name)

    head = numbered("created", response=_response(reply, ended=False))
    if reply.answer.tool_calls:
        pieces = [
            numbered("output_item.added", output_index=index, item=_called(reply, index, call, ended=False))
            + numbered(
                "function_call_arguments.done",
                item_id=f"fc_{reply.id}_{index}",
                output_index=index,
                name=call[0],
                arguments=json.dumps(call[1]),
            )
            + numbered("output_item.done", output_index=index, item=_called(reply, index, call, ended=True))
            for index, call in enumerate(reply.answer.tool_calls)
        ]
        tail = b""
    else:
        place = {"item_id": f"msg_{reply.id}", "output_index": 0, "content_index": 0}
        head += numbered("output_item.added", output_index=0, item=_said(reply, ended=False))
        head += numbered("content_part.added", **place, part=_part(""))
        pieces = [
            numbered("output_text.delta", **place, delta=piece, logprobs=[]) for piece in pieces_of(reply.answer.text)
        ]
        tail = numbered("output_text.done", **place, text=reply.answer.text, logprobs=[])
        tail += numbered("content_part.done", **place, part=_part(reply.answer.text))
        tail += numbered("output_item.done", output_index=0, item=_said(reply, ended=True))
    last = "incomplete" if reply.answer.cut else "completed"
    return Stream(head, pieces, tail + numbered(last, response=_response(reply, ended=True)))


def _response(reply: Reply, *, ended: bool) -> Body:
    output: list[Body] = []
    if ended and reply.answer.tool_calls:
        output = [_called(reply, index, call, ended=True) for index, call in enumerate(reply.answer.tool_calls)]
    elif ended:
        output = [_said(reply, ended=True)]
    done = "incomplete" if reply.answer.cut else "completed"
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": reply.created,
        "status": done if ended else "in_progress",
        "incomplete_details": {"reason": "max_output_tokens"} if ended and reply.answer.cut else None,
        "model": reply.body.get("model"),
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _usage(reply.usage) if ended else None,
    }


def _said(reply: Reply, *, ended: bool) -> Body:
    content = [_part(reply.answer.text)] if ended else []
    status = "completed" if ended else "in_progress"
    return {"id": f"msg_{reply.id}", "type": "message", "role": "assistant", "status": status, "content": content}


def _called(reply: Reply, index: int, call: ToolCall, *, ended: bool) -> Body:
    return {
        "id": f"fc_{reply.id}_{index}",
        "type": "function_call",
        "call_id": f"call_{reply.id}_{index}",
        "name": call[0],
        "arguments": json.dumps(call[1]) if ended else "",
        "status": "completed" if ended else "in_progress",
    }


def _part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": []}


def _usage(usage: Usage) -> Body:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.completion,
    }
