"""One request from its arrival to the end of its answer: known? admitted? treated how? answered with what?"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from plait.simulator.answers import Answer, Answering, Reply, Usage, answer_to
from plait.simulator.behaviours import Behaviour, Body, Request
from plait.simulator.caches import PromptCache
from plait.simulator.clocks import Clock
from plait.simulator.counters import Bodies, Counters
from plait.simulator.dialects import rate_headers, refusal_error, retry_headers
from plait.simulator.draws import Draw, digest
from plait.simulator.errors import error_body
from plait.simulator.faults import drawn_fault
from plait.simulator.latencies import latency_s
from plait.simulator.meters import Meters, Refusal
from plait.simulator.profiles import Profile
from plait.simulator.prompts import max_tokens, model_of, tokens_of
from plait.simulator.seats import Seats
from plait.simulator.shapes import SHAPES, Shape
from plait.simulator.shapes.parts import to_json
from plait.simulator.wires import Pace, hang_up, send, send_stream

logger = logging.getLogger(__name__)

_AZURE = re.compile(r"/openai/(?:v1|deployments/([^/]+))(/.+)")
_GOOD = Behaviour()


@dataclass(slots=True)
class _Asked:
    """A request that is being treated."""

    http: web.BaseRequest
    request: Request
    draw: Draw
    known: Shape | None
    behaviour: Behaviour = _GOOD
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: Answer | None = None

    @property
    def body(self) -> Body:
        return self.request.body


class Refused(Exception):
    """The request is answered with an error object."""

    def __init__(self, status: int, message: str, code: str | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error: dict[str, str | None] = {"message": message, "code": code, "type": kind}


class Desk:
    """Treats requests by the profile of the moment. Its attributes may be changed on the simulator's loop."""

    def __init__(self, profile: Profile, clock: Clock, answering: Answering | None) -> None:
        self.profile = profile
        self.clock = clock
        self.answering = answering
        self.behave: Callable[[Body, int], Behaviour | None] | None = None
        self.script: deque[Behaviour] = deque()
        self.gate: asyncio.Event | None = None
        self.counters = Counters()
        self.closing = False
        self.changed: Callable[[], None] = lambda: None
        """Called when counters have changed."""
        self.seats = Seats(profile.max_concurrency)
        self.forget()

    def forget(self) -> None:
        """Begin anew: limits rested, nothing cached, no body seen."""
        self.meters = Meters(self.profile, self.clock)
        self.bodies = Bodies()
        self.cache = PromptCache()

    def change(self, profile: Profile) -> None:
        """Treat what comes from now on by another profile."""
        self.profile = profile
        self.meters.change(profile)
        self.seats.limit = profile.max_concurrency
        self.seats.admit()

    async def treat(self, http: web.BaseRequest, request: Request, raw: bytes) -> web.StreamResponse:
        """Answer; called when the request was counted in, so that `received` is its number."""
        index = self.counters.received - 1
        body_digest = digest(raw)
        draw = Draw(self.profile.seed, body_digest, self.bodies.arrive(body_digest))
        shape = SHAPES.get(request.path) if http.method == "POST" else None
        asked = _Asked(http, request, draw, shape)
        scripted = self.script.popleft() if self.script else None
        if scripted is None and self.behave is not None:
            scripted = self.behave(request.body, index)
        asked.behaviour = scripted or _GOOD
        try:
            self._check(asked)
            if shape is None:
                return await self._at_last(asked)
            if scripted is None:
                asked.behaviour = self._unscripted(asked)
            refusal = self._refusal(asked)
        except Refused as refused:
            return await self._refuse(asked, refused)
        if refusal is not None:
            return await self._limit(asked, refusal)
        return await self._seated(asked)

    # --- before anything is paid -------------------------------------------------------------------

    def _check(self, asked: _Asked) -> None:
        request, profile = asked.request, self.profile
        method = asked.http.method
        if profile.require_key is not None:
            headers = request.headers
            key = headers.get("authorization", "").removeprefix("Bearer ")
            if profile.require_key not in (key, headers.get("x-api-key"), headers.get("api-key")):
                raise Refused(401, "Incorrect API key provided", "invalid_api_key")
        if asked.known is None and (method, request.path) != ("GET", "/v1/models"):
            raise Refused(404, f"Invalid URL ({method} {request.path})")
        if request.problem:
            raise Refused(400, request.problem)
        if asked.behaviour.reject_stream_options and "stream_options" in request.body:
            raise Refused(400, "Unrecognized request argument supplied: stream_options")
        model = model_of(request.body)
        if asked.known and profile.models is not None and model not in profile.models and not asked.behaviour.fails:
            raise Refused(404, f"The model `{model}` does not exist", "model_not_found")

    def _unscripted(self, asked: _Asked) -> Behaviour:
        return drawn_fault(self.profile, asked.draw, self.clock.wall()) or _GOOD

    def _refusal(self, asked: _Asked) -> Refusal | None:
        profile, seats = self.profile, self.seats
        if profile.over_limit == "refuse" and seats.limit is not None and not seats.free:
            return Refusal("concurrency", seats.limit, seats.taken, 1, None)
        tokens = 0
        if self.meters.count_tokens:
            tokens = len(tokens_of(asked.body))
            most = max_tokens(asked.body) if profile.charge == "reserved" else None
            tokens += self._answer(asked).tokens if most is None else most
        refusal = self.meters.admit(tokens)
        asked.headers = rate_headers(profile, self.meters, self.clock.wall())
        return refusal

    def _answer(self, asked: _Asked) -> Answer:
        if asked.answer is None and asked.known is not None and asked.known.stream is None:
            asked.answer = Answer()
        if asked.answer is None:
            try:
                asked.answer = answer_to(asked.body, self.answering, asked.behaviour.tool_calls)
            except Exception as error:
                logger.exception("the callable for answers raised")
                self.counters.faults["answer"] += 1
                raise Refused(500, f"the callable for answers raised {type(error).__name__}: {error}") from error
        return asked.answer

    async def _refuse(self, asked: _Asked, refused: Refused) -> web.StreamResponse:
        if refused.status != 500:
            self.counters.refused["invalid"] += 1
        content = error_body(asked.request.path, refused.status, refused.error)
        return await send(asked.http, refused.status, content, _GOOD, {})

    async def _limit(self, asked: _Asked, refusal: Refusal) -> web.StreamResponse:
        self.counters.refused[refusal.limit] += 1
        error = refusal_error(refusal, model_of(asked.body), vague=self.profile.vague)
        again = retry_headers(self.profile, refusal.wait_s, self.clock.wall())
        content = error_body(asked.request.path, 429, error)
        return await send(asked.http, 429, content, _GOOD, {**asked.headers, **again})

    # --- admitted ----------------------------------------------------------------------------------

    async def _seated(self, asked: _Asked) -> web.StreamResponse:
        self._count(asked)
        place = self.seats.claim()
        try:
            if place is not None:
                await place
            self._count_seats()
            if self.gate is not None:
                await self.gate.wait()
            return await self._at_last(asked)
        except Refused as refused:
            self.counters.accepted -= not asked.behaviour.fails
            return await self._refuse(asked, refused)
        finally:
            self.seats.leave(place)
            self._count_seats()

    def _count_seats(self) -> None:
        self.counters.served = self.seats.taken
        self.counters.served_peak = max(self.counters.served_peak, self.seats.taken)
        self.changed()

    def _count(self, asked: _Asked) -> None:
        if asked.behaviour.fails:
            self.counters.faults[asked.behaviour.kind] += 1
            return
        if asked.behaviour.kind != "scripted":
            self.counters.faults[asked.behaviour.kind] += 1
        self.counters.accepted += 1
        self.counters.duplicates += self.bodies.accept(asked.draw.digest)

    async def _at_last(self, asked: _Asked) -> web.StreamResponse:
        behaviour = asked.behaviour
        if behaviour.hold is not None and behaviour.hold_after_chunks is None:
            await behaviour.hold.wait()
        if behaviour.stall:
            await asyncio.Event().wait()
        if behaviour.reset_before_headers:
            return hang_up(asked.http, web.Response(), reset=True)
        failed = behaviour.status >= 400 or behaviour.error is not None
        quick = failed or asked.known is None
        delay_s = behaviour.delay_s
        if not quick:
            delay_s += latency_s(self.profile, self.counters.in_flight, asked.draw)
        if delay_s:
            await asyncio.sleep(delay_s)
        if behaviour.body is not None:
            return await send(asked.http, behaviour.status, behaviour.body, behaviour, asked.headers)
        if failed:
            content = error_body(asked.request.path, behaviour.status, behaviour.error or {})
            return await send(asked.http, behaviour.status, content, behaviour, asked.headers)
        if asked.known is None:
            return await send(asked.http, behaviour.status, to_json(self._listing()), behaviour, asked.headers)
        return await self._reply(asked, asked.known)

    async def _reply(self, asked: _Asked, shape: Shape) -> web.StreamResponse:
        answer = self._answer(asked)
        reply = Reply(asked.body, asked.draw.id, int(self.clock.wall()), answer, self._usage(asked, answer))
        profile = self.profile
        if asked.body.get("stream") and shape.stream is not None:
            pace = Pace(profile.ttft_s, profile.gap_s)
            return await send_stream(asked.http, shape.stream(reply), asked.behaviour, asked.headers, pace)
        if shape.stream is not None and (wait_s := profile.ttft_s + answer.tokens * profile.gap_s):
            await asyncio.sleep(wait_s)
        return await send(asked.http, asked.behaviour.status, shape.plain(reply), asked.behaviour, asked.headers)

    def _usage(self, asked: _Asked, answer: Answer) -> Usage:
        tokens = tokens_of(asked.body)
        cached = self.cache.look_up(self.profile, model_of(asked.body), tokens, self.clock.now())
        usage = Usage(len(tokens), answer.tokens, cached)
        if not asked.behaviour.fails:
            self.counters.prompt_tokens += usage.prompt
            self.counters.completion_tokens += usage.completion
            self.counters.cached_tokens += usage.cached
        return usage

    def _listing(self) -> Body:
        names = ("test-model",) if self.profile.models is None else self.profile.models
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "plait"} for name in names]
        return {"object": "list", "data": entries}


def read(http: web.BaseRequest, raw: bytes) -> Request:
    """The request as it is treated; Azure's paths become OpenAI's."""
    path, deployment = http.path, None
    if (found := _AZURE.fullmatch(path)) is not None:
        deployment, path = found[1], f"/v1{found[2]}"
    headers = {name.lower(): value for name, value in http.headers.items()}
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        return Request(path, {}, headers, "We could not parse the JSON body of your request.")
    if not isinstance(body, dict):
        return Request(path, {}, headers, "The body of your request must be a JSON object.")
    if deployment is not None:
        body.setdefault("model", deployment)
    return Request(path, body, headers)
