"""One model call from the queue to its last byte: gate, send, retry, settle.

The logic is written once, as coroutines over a `Wire`, for asynchronous and synchronous clients alike.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plait.errors import BlockingCall, CallUnrecorded
from plait.flow.calls import Call, Meter, recognise, without_stream_options
from plait.flow.gate import Gate
from plait.flow.headers import read_advice
from plait.flow.held import HeldBody, drain_open, note_open
from plait.flow.limits import Limit, Permit
from plait.flow.queues import BATCH, Place
from plait.flow.recorders import Slot
from plait.flow.records import Record, decoded, find_slot, flavour_of, is_encoded, lowered, response_of
from plait.flow.refusals import hopeless, report_refusal, stand_in
from plait.flow.retries import Attempts, is_retryable_error
from plait.flow.scopes import Scope, current_limits, current_scope, unscoped_refused
from plait.flow.tickets import Outcome, Ticket
from plait.flow.timings import Timing
from plait.flow.usage import Tokens
from plait.flow.wire import WholeBody, Wire

logger = logging.getLogger("plait.flow")

_MARK = "plait"
CONNECTED = "plait_connect_s"
"""A transport puts the seconds that it took to open a connection there, in the request's extensions."""
_NOWHERE = Place(sys.maxsize, BATCH)
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class _Again:
    """An attempt failed in a way that is worth another after this many seconds."""

    wait_s: float
    why: str


def is_marked(request: Any) -> bool:
    """True for a request that is inside an exchange already: it is gated once, however many transports wrap it."""
    return _MARK in request.extensions


async def exchange(request: Any, wire: Wire, gate: Gate, *, foreign: bool) -> Any:
    """Send a request through the gate, retried; returns the final response, its permit held until its body ends.

    `foreign` is True for clients that plait did not make: they retry exceptions by themselves, so a final connection
    error or timeout reaches them as a 503 that forbids it. Requests that are no model calls pass untouched.
    Raises what the transport raised last, CallCancelled once the run is over, and BlockingCall.
    """
    call = recognise(request)
    scope = current_scope()
    if call is None or (scope.gate if scope else gate).is_own(call.endpoint):
        return await wire.send(request)
    slot = find_slot(call, scope)
    if slot is not None and slot.answer is not None and scope is not None:
        scope.replay_call(call, slot.answer)
        if scope.observer:
            scope.observer.replays(call, slot.answer)
        return response_of(slot.answer, request)
    request.extensions[_MARK] = True
    if call.streamed:
        # A compressed stream cannot be watched event by event, and gains little.
        request.headers["accept-encoding"] = "identity"
    task = scope.note_task() if scope else None
    try:
        return await _Exchange(call, request, wire, scope.gate if scope else gate, scope, slot, foreign).run()
    finally:
        if scope:
            scope.forget_task(task)
        request.extensions.pop(_MARK, None)


class _Exchange:
    def __init__(
        self,
        call: Call,
        request: Any,
        wire: Wire,
        gate: Gate,
        scope: Scope | None,
        slot: Slot | None,
        foreign: bool,
    ) -> None:
        self.call = call
        self.request = request
        self.wire = wire
        self.gate = gate
        self.scope = scope
        self.slot = slot
        self.foreign = foreign
        self.flavour = flavour_of(request)
        self.endpoint = gate.endpoint(call.endpoint)
        self.lane, retries = gate.lane(call)
        self.attempts = Attempts(retries, gate.clock)
        self.ended = False
        self.node = scope.node() if scope else ""
        self.timing = Timing(calls=1)
        self.first_token_at = 0.0
        self.watcher = scope.watcher if scope else None
        self.observed = scope.observer.begins(call) if scope and scope.observer else None
        self.admitted: Tokens | None = None
        """What the call was expected to cost when it was first sent."""

    async def run(self) -> Any:
        if self.scope:
            self.scope.begin_call(self.call)
        elif unscoped_refused():
            raise CallUnrecorded(
                f"a call of {self.call.model} was made outside any run's context, in a thread or task of its own: "
                "no recorded answer can be found for it"
            )
        else:
            self.gate.unscoped_calls += 1
        try:
            while True:
                permit, ticket = await self._admit()
                try:
                    outcome = await self._attempt(permit, ticket)
                except BaseException:
                    permit.release()
                    self.timing.wait("retry", self.gate.clock.now() - ticket.sent_at)
                    raise
                if not isinstance(outcome, _Again):
                    return outcome
                permit.release()
                logger.info(
                    "%s %s: %s; attempt %d follows in %.1f s",
                    *(self.call.endpoint, self.call.model, outcome.why, self.attempts.count + 1, outcome.wait_s),
                )
                await self.wire.sleep(outcome.wait_s, self.scope)
                self.timing.wait("retry", self.gate.clock.now() - ticket.sent_at)
        except BaseException:
            self.end(None)
            raise

    def end(self, meter: Meter | None, ticket: Ticket | None = None) -> None:
        if self.ended:
            return
        self.ended = True
        if meter is not None and ticket is not None:
            self._settle(meter, ticket)
        if self.watcher and self.admitted:
            self.watcher.settle(self.call, self.admitted, meter.tokens if meter else None)
        if self.scope:
            self.scope.end_call(self.call.model, meter)
            self.scope.add_timing(self.node, self.timing)
        if self.observed:
            self.observed(meter, self.timing)

    def _settle(self, meter: Meter, ticket: Ticket) -> None:
        """Tell the gate what the call turned out to cost, and how long it took."""
        now = self.gate.clock.now()
        call, first = self.call, self.first_token_at or now
        connect_s = float(self.request.extensions.get(CONNECTED, 0.0))
        self.timing.connect_s += connect_s
        self.timing.first_token_s += max(0.0, first - ticket.sent_at - connect_s)
        self.timing.generation_s += max(0.0, now - first)
        if not meter.estimated:
            self.lane.sizes.learn(call.prompt_tokens, meter.input_tokens, meter.output_tokens, call.answers)
        # A reader who looks at the tokens may be slow: how long the answer took says nothing of the endpoint then.
        seen = call.streamed and not self._holds_all
        ticket.release(
            Outcome(
                tokens=meter.input_tokens + meter.output_tokens,
                output_tokens=meter.output_tokens,
                duration_s=0.0 if seen else now - ticket.sent_at - connect_s,
            )
        )

    @property
    def _holds_all(self) -> bool:
        """Whether nobody sees the tokens before the answer is whole."""
        return self.scope is not None and not self.scope.watched

    def check(self) -> None:
        if self.scope:
            self.scope.check()

    def broken(self, why: str) -> Exception:
        error: Exception = self.flavour.RemoteProtocolError(why)
        return error

    async def _admit(self) -> tuple[Permit, Ticket]:
        permit = Permit()
        place = self.scope.place if self.scope else _NOWHERE
        began = self.gate.clock.now()
        try:
            for limit in current_limits():
                if not limit.try_acquire():
                    await self._wait(limit, place)
                permit.add(limit)
            queued = self.gate.clock.now()
            expected = self._expected()
            ticket = self.lane.ticket(place, float(expected.input + expected.output))
            permit.add(ticket)
            if not ticket.try_acquire():
                await self._wait(ticket, place)
            if self.watcher and not self.admitted:
                while not self.watcher.admit(self.call, expected):
                    if not self.wire.can_wait:
                        raise BlockingCall(
                            "a synchronous model call on an event loop's own thread would have to wait for the batch's "
                            "budget and block every other call; use `await model.ainvoke(...)`"
                        )
                    await self.wire.sleep(_LOOK_S, self.scope)
                self.admitted = expected
        except BaseException:
            permit.release()
            raise
        if queued > began:
            self.timing.wait("concurrency", queued - began)
        for cause, seconds in ticket.waits.items():
            self.timing.wait(cause, seconds)
        return permit, ticket

    async def _wait(self, limit: Limit | Ticket, place: Place) -> None:
        await drain_open()
        if not self.watcher:
            await self.wire.acquire(limit, place.order, self.scope)
            return
        self.watcher.waits(+1)
        try:
            await self.wire.acquire(limit, place.order, self.scope)
        finally:
            self.watcher.waits(-1)

    def _expected(self) -> Tokens:
        call = self.call
        expected = self.lane.sizes.expect(call.prompt_tokens, call.most_tokens, call.answers)
        return Tokens(input=expected.input, output=expected.output)

    async def _attempt(self, permit: Permit, ticket: Ticket) -> Any:
        if self.call.asks_stream_usage and self.endpoint.rejects_stream_options and not self.foreign:
            self._drop_stream_options()
        if self.scope:
            self.scope.begin_attempt()
        self.attempts.begin()
        response = None
        try:
            response = await self.wire.send(self.request)
            self.endpoint.reached = True
            if response.status_code >= 400:
                return await self._refused(response, permit, ticket)
            headers = lowered(response.headers)
            if advice := read_advice(headers, self.gate.clock.wall()):
                ticket.tell(advice)
            self.first_token_at = self.gate.clock.now()
            if _is_stream(headers, self.call):
                return await self._open_stream(response, permit, ticket)
            return await self._read_whole(response, headers, permit, ticket)
        except Exception as error:
            if response is None:
                ticket.release(Outcome(reached=False))
            wait_s = self.attempts.wait_after_error(error, reached=self.endpoint.reached)
            if wait_s is not None and self.call.replayable and self.wire.can_wait:
                return _Again(wait_s, f"{type(error).__name__}: {error}")
            if self.foreign and is_retryable_error(error):
                permit.release()
                self.end(None)
                return stand_in(error, self.attempts.count, self.call, self.request)
            raise

    async def _refused(self, response: Any, permit: Permit, ticket: Ticket) -> Any:
        raw = await self._read(response)
        body = decoded(self.flavour, response, raw)
        kind = report_refusal(response, body, ticket, self.gate.clock.wall())
        if response.status_code in {400, 422} and self._blames_stream_options(body):
            self.endpoint.rejects_stream_options = True
            return _Again(0.0, "the endpoint rejects stream_options")
        wait_s = self.attempts.wait_after_response(response.status_code, response.headers, body)
        if wait_s is not None and self.call.replayable and self.wire.can_wait:
            return _Again(wait_s, f"status {response.status_code}")
        if response.status_code == 429 and self.attempts.out_of_time and not self.foreign:
            raise hopeless(kind, self.attempts, self.lane.name, self.gate.clock.wall())
        permit.release()
        self.end(None)
        # openai and anthropic obey this header, so that their retries do not multiply ours.
        response.headers["x-should-retry"] = "false"
        response.stream = self.flavour.ByteStream(raw)
        return response

    async def _read_whole(self, response: Any, headers: Mapping[str, str], permit: Permit, ticket: Ticket) -> Any:
        raw = await self._read(response)
        meter = Meter(self.call)
        body = decoded(self.flavour, response, raw) if "content-encoding" in headers else raw
        meter.read_body(body)
        fits = meter.readable or "json" not in headers.get("content-type", "")
        if not fits and (again := self._repeat("the answer is not JSON")):
            return again
        self.end(meter, ticket)
        permit.release()
        if self.slot:
            await Record(self.slot, self.wire, self.call, response, headers).whole(body, meter)
        response.stream = self.flavour.ByteStream(raw)
        return response

    def _repeat(self, why: str) -> _Again | None:
        """Another attempt after an answer that is none, where that is possible."""
        if not (self.call.replayable and self.wire.can_wait):
            return None
        wait_s = self.attempts.wait_after_response(503, {}, b"")
        return None if wait_s is None else _Again(wait_s, why)

    async def _open_stream(self, response: Any, permit: Permit, ticket: Ticket) -> Any:
        """Hold the answer back until its first token, so that a stream that breaks before it can be repeated."""
        source = response.stream
        record = Record(self.slot, self.wire, self.call, response) if self.slot else None
        held = HeldBody(
            self.call, self.wire, source, permit, ticket, opaque=is_encoded(response), owner=self, record=record
        )
        began = self.first_token_at
        self.first_token_at = 0.0
        try:
            while not held.opaque and (self._holds_all or not (held.meter.has_token or held.meter.complete)):
                if not await held.fetch():
                    break
                if not self.first_token_at and held.meter.has_token:
                    self.first_token_at = self.gate.clock.now()
        except BaseException:
            await self.wire.close(source)
            raise
        self.first_token_at = self.first_token_at or began
        if held.meter.worth_another_attempt:
            ticket.release(Outcome(kind="overload"))
            if again := self._repeat("the stream began with an error"):
                await self.wire.close(source)
                return again
        response.stream = self.wire.held_stream(self.flavour, held)
        note_open(held)
        return response

    async def _read(self, response: Any) -> bytes:
        stream = response.stream
        if isinstance(stream, WholeBody):
            return await stream.whole()
        chunks = self.wire.chunks(stream)
        parts = []
        try:
            while (chunk := await self.wire.next_chunk(chunks)) is not None:
                parts.append(chunk)
        finally:
            await self.wire.close(stream)
        return b"".join(parts)

    def _blames_stream_options(self, body: bytes) -> bool:
        return self.call.asks_stream_usage and not self.foreign and b"stream_options" in body

    def _drop_stream_options(self) -> None:
        self.call.asks_stream_usage = False
        request = self.request
        headers = [(name, value) for name, value in request.headers.multi_items() if name != "content-length"]
        self.request = self.flavour.Request(
            request.method,
            request.url,
            headers=headers,
            content=json.dumps(without_stream_options(request.content)).encode(),
            extensions=request.extensions,
        )


def _is_stream(headers: Mapping[str, str], call: Call) -> bool:
    kind = headers.get("content-type", "")
    return "text/event-stream" in kind or (call.streamed and "json" not in kind)
