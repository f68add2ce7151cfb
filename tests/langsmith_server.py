"""A loopback server that answers as LangSmith does at the endpoints that plait uses, and keeps what it is given.

async with LangSmith() as langsmith:
    ... langsmith.env ...
"""

from __future__ import annotations

import asyncio
import email
import json
import socket
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from aiohttp import web
from pydantic import ValidationError

from tests.langsmith_bodies import DatasetBody, ExampleBody, FeedbackBody, FeedbackPatch, RunBody, SessionBody

KEY = "a-key-of-langsmith"
TENANT = "99999999-9999-4999-8999-999999999999"
STAMP = "2026-01-01T00:00:00+00:00"

Entry = dict[str, Any]


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class LangSmith:
    """Keeps `datasets`, `examples`, `sessions`, `runs` and `feedback` by their ids, as JSON values.

    `multipart` is whether its `/info` offers multipart requests for runs and examples.
    """

    def __init__(self, *, multipart: bool = True) -> None:
        self.multipart = multipart
        self.busy = 0
        """How many of the next requests are answered with 429 and Retry-After."""
        self.forbids: int | None = None
        """A status that answers every request."""
        self.refused_path: str | None = None
        """Requests below it are answered with 422."""
        self.held: asyncio.Event | None = None
        """What runs wait for before they are taken."""
        self.datasets: dict[str, Entry] = {}
        self.examples: dict[str, Entry] = {}
        self.sessions: dict[str, Entry] = {}
        self.runs: dict[str, Entry] = {}
        self.feedback: dict[str, Entry] = {}
        self.requests: list[tuple[str, str, int]] = []
        """Method, path and status of each."""
        self.bodies: list[bytes] = []
        self.arrived = asyncio.Event()
        """Set by the first request with runs."""
        self.url = ""

    @property
    def env(self) -> dict[str, str]:
        """The variables with which this server is LangSmith."""
        return {"LANGSMITH_ENDPOINT": self.url, "LANGSMITH_API_KEY": KEY}

    @property
    def state(self) -> dict[str, dict[str, Entry]]:
        """All that it keeps, as it is now."""
        kept = (self.datasets, self.examples, self.sessions, self.runs, self.feedback)
        copied: list[dict[str, Entry]] = json.loads(json.dumps(kept))
        return dict(zip(("datasets", "examples", "sessions", "runs", "feedback"), copied, strict=True))

    @property
    def lost(self) -> list[str]:
        """The feedback whose run never came."""
        return [id_ for id_, entry in self.feedback.items() if entry["run_id"] and entry["run_id"] not in self.runs]

    def add_dataset(self, name: str, *examples: Entry, metadata: Entry | None = None) -> str:
        """A dataset that somebody made in LangSmith; returns its id."""
        id_ = str(uuid4())
        self.datasets[id_] = {
            "id": id_, "name": name, "created_at": STAMP, "data_type": "kv", "metadata": metadata or {}
        }  # fmt: skip
        for example in examples:
            kept = {"outputs": None, "metadata": None, **example, "dataset_id": id_}
            self.examples[kept["id"]] = kept | {"created_at": STAMP, "modified_at": STAMP}
        return id_

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=100_000_000)
        router = app.router
        router.add_get("/info", self._info)
        router.add_get("/sessions", self._list(self.sessions))
        router.add_post("/sessions", self._make_session)
        router.add_get("/datasets", self._list(self.datasets))
        router.add_post("/datasets", self._make_dataset)
        router.add_get("/examples", self._list_examples)
        router.add_post("/examples/bulk", self._examples_in_bulk)
        router.add_post("/v1/platform/datasets/{dataset}/examples", self._examples_in_parts)
        router.add_post("/runs/batch", self._runs_in_bulk)
        router.add_post("/runs/multipart", self._runs_in_parts)
        router.add_post("/feedback", self._give)
        router.add_patch("/feedback/{id}", self._change)
        app.middlewares.append(self._guard)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await web.SockSite(self._runner, listener).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.bodies.append(await request.read())
        try:
            if self.forbids is not None:
                raise _Refused(self.forbids, "no")
            if request.headers.get("x-api-key") != KEY:
                raise _Refused(401, f"Invalid token {request.headers.get('x-api-key')}")
            if self.refused_path is not None and request.path.startswith(self.refused_path):
                raise _Refused(422, "not today")
            if self.busy > 0:
                self.busy -= 1
                raise _Refused(429, "too many requests")
            answer: web.StreamResponse = await handler(request)
        except _Refused as refused:
            headers = {"retry-after": "1"} if refused.status == 429 else {}
            answer = web.json_response({"detail": str(refused)}, status=refused.status, headers=headers)
        except (ValidationError, ValueError) as error:
            answer = web.json_response({"detail": str(error)}, status=422)
        self.requests.append((request.method, request.path, answer.status))
        return answer

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "version": "0.12.0",
                "batch_ingest_config": {"use_multipart_endpoint": self.multipart, "size_limit": 100},
                "instance_flags": {"dataset_examples_multipart_enabled": self.multipart},
            }
        )

    def _list(self, kept: dict[str, Entry]) -> Any:
        async def listed(request: web.Request) -> web.Response:
            name = request.query.get("name")
            found = [entry for entry in kept.values() if name is None or entry["name"] == name]
            if kept is self.datasets:
                sizes = [entry["dataset_id"] for entry in self.examples.values()]
                found = [entry | {"example_count": sizes.count(entry["id"])} for entry in found]
            return web.json_response(found[: int(request.query["limit"])])

        return listed

    async def _make_dataset(self, request: web.Request) -> web.Response:
        body = DatasetBody.model_validate_json(await request.read())
        if any(entry["name"] == body.name for entry in self.datasets.values()):
            raise _Refused(409, "Dataset with this name already exists.")
        metadata = body.extra["metadata"]
        assert isinstance(metadata, dict)
        return web.json_response(self.datasets[self.add_dataset(body.name, metadata=dict(metadata))])

    async def _make_session(self, request: web.Request) -> web.Response:
        body = SessionBody.model_validate_json(await request.read())
        if str(body.reference_dataset_id) not in self.datasets:
            raise _Refused(404, "Dataset not found")
        if any(entry["name"] == body.name for entry in self.sessions.values()):
            raise _Refused(409, "Session already exists.")
        entry = body.model_dump(mode="json") | {"tenant_id": TENANT, "start_time": STAMP}
        self.sessions[entry["id"]] = entry
        return web.json_response(entry)

    async def _list_examples(self, request: web.Request) -> web.Response:
        dataset, offset, limit = request.query["dataset"], int(request.query["offset"]), int(request.query["limit"])
        assert 1 <= limit <= 100
        found = [entry for entry in self.examples.values() if entry["dataset_id"] == dataset]
        return web.json_response(found[offset : offset + limit])

    async def _examples_in_bulk(self, request: web.Request) -> web.Response:
        return web.json_response(self._keep_examples(json.loads(await request.read())))

    async def _examples_in_parts(self, request: web.Request) -> web.Response:
        bodies: dict[str, Entry] = {}
        for name, value in await _parts(request):
            id_, _, field = name.partition(".")
            if field:
                bodies[id_][field] = value
            else:
                bodies[id_] = {**value, "id": id_, "dataset_id": request.match_info["dataset"]}
        kept = self._keep_examples(list(bodies.values()))
        return web.json_response({"example_ids": [entry["id"] for entry in kept], "count": len(kept), "as_of": STAMP})

    def _keep_examples(self, bodies: list[Entry]) -> list[Entry]:
        found = [ExampleBody.model_validate(body).model_dump(mode="json") for body in bodies]
        for entry in found:
            if entry["dataset_id"] not in self.datasets:
                raise _Refused(404, "Dataset not found")
            if entry["id"] in self.examples:
                raise _Refused(409, "Example with this id already exists")
        for entry in found:
            entry |= {"created_at": STAMP, "modified_at": STAMP}
            self.examples[entry["id"]] = entry
        return found

    async def _runs_in_bulk(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        return await self._keep_runs(body.pop("post"), body)

    async def _runs_in_parts(self, request: web.Request) -> web.Response:
        bodies: dict[str, Entry] = {}
        for name, value in await _parts(request):
            operation, id_, *field = name.split(".")
            assert operation == "post", name
            if field:
                bodies[id_][field[0]] = value
            else:
                bodies[id_] = value
        return await self._keep_runs(list(bodies.values()), {})

    async def _keep_runs(self, bodies: list[Entry], rest: Entry) -> web.Response:
        self.arrived.set()
        if self.held is not None:
            await self.held.wait()
        found = [RunBody.model_validate(body) for body in bodies]
        if rest or len(found) > 100:
            raise _Refused(422, f"expected at most 100 new runs, found {len(found)} and {sorted(rest)}")
        for run in found:
            self._check_run(run)
        # A run is created once: LangSmith answers 409 to a second time, and its client takes that for done.
        fresh = [run for run in found if str(run.id) not in self.runs]
        if not fresh:
            raise _Refused(409, "payloads already received")
        self.runs |= {str(run.id): run.model_dump(mode="json") for run in fresh}
        return web.json_response({}, status=202)

    def _check_run(self, run: RunBody) -> None:
        session = next((entry for entry in self.sessions.values() if entry["name"] == run.session_name), None)
        if session is None:
            raise _Refused(404, f"no session {run.session_name}")
        segments = run.segments()
        above = [str(run.parent_run_id)] if run.parent_run_id else []
        stamp = run.dotted_order.rpartition(".")[2].partition("Z")[0]
        if (
            segments[0] != str(run.trace_id)
            or segments[-1] != str(run.id)
            or segments[-2:-1] != above
            or datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%S%f%z") != run.start_time
            or run.end_time < run.start_time
            or run.id.version != 7
        ):
            raise _Refused(422, f"invalid dotted_order, times or id: {run.dotted_order}")
        if run.reference_example_id is not None:
            example = self.examples.get(str(run.reference_example_id))
            if example is None or example["dataset_id"] != session["reference_dataset_id"] or above:
                raise _Refused(422, f"no such example in the session's dataset: {run.reference_example_id}")

    async def _give(self, request: web.Request) -> web.Response:
        body = FeedbackBody.model_validate_json(await request.read())
        if str(body.session_id) not in self.sessions:
            raise _Refused(404, "Session not found")
        if body.score is None and body.value is None:
            raise _Refused(422, "expected a score or a value")
        if str(body.id) in self.feedback:
            raise _Refused(409, "Feedback already exists")
        # Its times are those of the request.
        entry = body.model_dump(mode="json", exclude={"created_at", "modified_at"})
        self.feedback[entry["id"]] = entry
        return web.json_response(entry)

    async def _change(self, request: web.Request) -> web.Response:
        body = FeedbackPatch.model_validate_json(await request.read())
        if request.match_info["id"] not in self.feedback:
            raise _Refused(404, "Feedback not found")
        self.feedback[request.match_info["id"]] |= body.model_dump(mode="json", exclude_unset=True)
        return web.json_response({})


async def _parts(request: web.Request) -> list[tuple[str, Any]]:
    """The names and JSON values of a multipart form."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    found = []
    for part in email.message_from_bytes(head + await request.read()).walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            found.append((str(part.get_param("name", header="content-disposition")), json.loads(content)))
    return found
