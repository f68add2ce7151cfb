"""`POST /v1/chat/completions`: a workflow as a model, for any client that speaks OpenAI's API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from plait.errors import InputError, PlaitError
from plait.service.bodies.chat_completions import ChatCompletion, ChatCompletionBody, ChatProblem, Model, Models
from plait.service.chats import Speech, inputs_for, text_of
from plait.service.clients import EventStream
from plait.service.graphs import Graph
from plait.service.json_texts import dumps, loads
from plait.service.outcomes import succeeded
from plait.service.problems import answered, documented, problem
from plait.service.routes.asks import Ask, Asked
from plait.service.routes.service_routes import ServiceRoute
from plait.service.single_runs import Asking, SingleRun, begin, leave, parts_of, wait

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 409: "conflict", 429: "rate_limit_exceeded"}
_PARAMS = {404: "model"}
_AFTER_WHICH_TO_RETRY = frozenset({429, 503})
_RETRIED_BY_CLIENTS = frozenset({408, 409, 429})
_SOON_S = 60


class ChatRoute(ServiceRoute):
    """Answers errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def shaped(request: Request) -> Response:
            try:
                return await handle(request)
            except AnyHTTPException as error:
                return _answered(error)

        return shaped


router = APIRouter(tags=["chat completions"], route_class=ChatRoute)


def _documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    return {status: {**said, "model": ChatProblem} for status, said in documented(*statuses).items()}


_STREAM = (
    'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Once"}}]}\n\ndata: [DONE]\n\n'
)


@router.post(
    "/v1/chat/completions",
    summary="Use a workflow as a model",
    response_model=ChatCompletion,
    responses={
        200: {
            "description": "The workflow's answer; with `stream`, in chunks.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _STREAM}},
        },
        **_documented(400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 502, 503, 504),
    },
)
async def create_chat_completion(asked: Asked, request: Request, body: ChatCompletionBody) -> Response:
    """Run the workflow that `model` names and answer with the text it makes.

    A workflow with `messages` among its inputs gets all of them. One whose only required input is a text gets the last
    user message. Any other gets the JSON object that the last user message is, or `inputs`, a field of ours. The answer
    is the last AI message, else the only text among the outputs, else the outputs as JSON.

    A stream says the same: tokens of the nodes that the workflow can end with, of one branch; what they do not say
    comes at the end. Parameters that shape a model's answer (temperature, max_tokens, seed, ...) have no effect; those
    that ask for tools, several choices or a schema are refused.
    """
    if (refused := body.refused()) is not None:
        name, why = refused
        raise ParameterRefused(name, f"{name} is not supported: {why}; leave it out", "unsupported_parameter")
    asking = Asking(body.model, body.context, bool(body.stream))
    single = await begin(asked, asking, lambda graph: _inputs(graph, body))
    created = int(time.time())
    if body.stream:
        return EventStream(_chunks(asked, single, body, created), left=lambda: leave(asked, single))
    outcome = succeeded(await wait(asked, request, single.run_id), single.failure, asked.service.clean)
    answer = text_of(single.outputs(outcome.values), single.inputs)
    message = {"role": "assistant", "content": answer, "refusal": None}
    completion = {
        "id": f"chatcmpl-{outcome.run_id}",
        "object": "chat.completion",
        "created": created,
        "model": body.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _usage(outcome.usage),
    }
    return Response(dumps(completion), media_type="application/json")


@router.get("/v1/models", summary="List the workflows as models", responses=_documented(401, 403))
async def list_models(asked: Asked) -> Models:
    """The workflows of the app."""
    return Models(object="list", data=[_model(name) for name in asked.service.graphs.names])


@router.get("/v1/models/{model}", summary="Get a workflow as a model", responses=_documented(401, 403, 404))
async def get_model(asked: Asked, model: str) -> Model:
    """One workflow."""
    names = asked.service.graphs.names
    if model not in names:
        raise problem(404, f"expected a workflow, found {model!r}: workflows: {', '.join(names)}")
    return _model(model)


class ParameterRefused(HTTPException):
    """A 400 that names the parameter."""

    def __init__(self, param: str, message: str, code: str | None = None) -> None:
        super().__init__(400, message)
        self.param = param
        self.code = code


def _model(name: str) -> Model:
    return Model(id=name, object="model", created=0, owned_by="plait")


def _inputs(graph: Graph, body: ChatCompletionBody) -> Mapping[str, object]:
    try:
        return inputs_for(graph, body.model, body.messages, body.inputs)
    except InputError as error:
        raise ParameterRefused("messages" if body.inputs is None else "inputs", str(error)) from error


async def _chunks(asked: Ask, single: SingleRun, body: ChatCompletionBody, created: int) -> AsyncIterator[bytes]:
    wants_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunk = _Chunk(single.run_id, created, body.model, wants_usage=wants_usage)
    speech, end = Speech(single.speakers), dict[str, object]()
    yield chunk.of({"role": "assistant", "content": "", "refusal": None})
    try:
        async for part in parts_of(asked, single):
            said = loads(part.data)
            match said.get("type") or part.event:
                case "token" if text := speech.token(said["branch"], said["message_id"], said["text"]):
                    yield chunk.of({"content": text})
                case "update":
                    speech.finished(said["branch"])
                case "error" | "end":
                    end |= said
        # Only now its end is stored, and what made it fail is known.
        if end.get("status") != "success":
            yield _event(_problem(_unfinished(asked, single, end)))
            return
        if rest := speech.rest(text_of(end.get("outputs"), single.inputs)):
            yield chunk.of({"content": rest})
        yield chunk.of({}, finish_reason="stop")
        if wants_usage:
            yield chunk.usage(_usage(end.get("usage")))
        yield b"data: [DONE]\n\n"
    except PlaitError as error:
        yield _event(_problem(answered(error, asked.service.clean)))


def _unfinished(asked: Ask, single: SingleRun, end: Mapping[str, object]) -> HTTPException:
    if single.failure is not None:
        return answered(single.failure, asked.service.clean)
    if end.get("interrupts"):
        return problem(409, "the workflow asks something before it goes on, which a chat completion cannot answer")
    if "error" in end:
        return problem(500, f"{end['error']}: {end.get('message')}")
    return problem(409, "the run was cancelled")


class _Chunk:
    """Makes the chunks of one stream."""

    def __init__(self, run_id: str, created: int, model: str, *, wants_usage: bool) -> None:
        self._head: dict[str, object] = {
            "id": f"chatcmpl-{run_id}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._tail: dict[str, object] = {"usage": None} if wants_usage else {}

    def of(self, delta: Mapping[str, object], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return _event({**self._head, "choices": [choice], **self._tail})

    def usage(self, usage: Mapping[str, object]) -> bytes:
        return _event({**self._head, "choices": [], "usage": usage})


def _event(data: Mapping[str, object]) -> bytes:
    return b"data: %b\n\n" % dumps(data)


def _usage(usage: object) -> dict[str, object]:
    counts = usage if isinstance(usage, Mapping) else {}
    read, written = int(counts.get("input_tokens", 0)), int(counts.get("output_tokens", 0))
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": int(counts.get("cached_tokens", 0))},
    }


def _problem(error: AnyHTTPException) -> dict[str, object]:
    status = error.status_code
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {
        "error": {
            "message": str(error.detail),
            "type": kind,
            "param": error.param if isinstance(error, ParameterRefused) else _PARAMS.get(status),
            "code": error.code if isinstance(error, ParameterRefused) else _CODES.get(status),
        }
    }


def _answered(error: AnyHTTPException) -> Response:
    headers = dict(error.headers or {})
    # OpenAI's API has no 422; clients know what to do with a 400.
    status = 400 if error.status_code == 422 else error.status_code
    later = float(headers.get("Retry-After", "inf"))
    # The SDKs send again by themselves what failed with these; a run that failed would be paid for again.
    if (status >= 500 or status in _RETRIED_BY_CLIENTS) and (status not in _AFTER_WHICH_TO_RETRY or later > _SOON_S):
        headers["x-should-retry"] = "false"
    return JSONResponse(_problem(error), status, headers)
