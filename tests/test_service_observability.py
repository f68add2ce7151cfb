"""What a running service tells about itself: figures, log lines, traces; and what it never tells."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from plait.errors import SettingsError
from plait.flow.usage import Tokens, Usage
from plait.prices import Price, Prices
from plait.service import Figures, ServiceOptions, create_app
from plait.service.listeners import Listeners, costs
from plait.service.logs import AccessLog, Form, RunLog, formatter
from plait.service.metrics import Metrics
from plait.service.telemetry import TraceContext, Traces, exporting
from plait.simulator import Behaviour, Simulator
from plait.simulator import running as simulating
from plait.store.service.records import RunRecord
from tests.serving import listening, settings_in

APP = Path(__file__).parent / "apps" / "service_app"
KEY = "sk-a-key-that-nobody-may-see"
SECRET = "zebras"
"""A word of the prompts, and so of the answers."""
MODEL = "gpt-5.4-mini"


@dataclass(frozen=True)
class Watched:
    """A service, and what it tells."""

    url: str
    spans: InMemorySpanExporter
    log: io.StringIO


@pytest.fixture(scope="module")
def model() -> Iterator[Simulator]:
    with simulating() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def service(model: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    home = tmp_path_factory.mktemp("home")
    settings = settings_in(home, base_url=model.base_url, OPENAI_API_KEY=KEY).override(model=f"openai:{MODEL}")
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    made = create_app(
        Path(__file__).parents[1],
        settings=replace(settings, prices={MODEL: {"input": 1.0, "output": 2.0}}),
        options=ServiceOptions(max_running=1),
        listeners=[Traces(provider)],
    )
    made.add_middleware(AccessLog)
    made.add_middleware(TraceContext)
    with logging_to("json") as log, listening(made) as found:
        yield Watched(found.url, spans, log)


@contextmanager
def logging_to(form: Form) -> Iterator[io.StringIO]:
    """What a host or `plait serve` does: a handler with our formatter."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(formatter(form, keys=frozenset({KEY})))
    logger = logging.getLogger("plait.service")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield log
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@pytest.fixture
async def client(service: Watched) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh(service: Watched) -> None:
    service.spans.clear()
    service.log.seek(0)
    service.log.truncate()


async def story(client: httpx.AsyncClient, *, streamed: bool = False, **headers: str) -> httpx.Response:
    accept = "text/event-stream" if streamed else "application/json"
    body = {"workflow": "story", "inputs": {"topic": SECRET}}
    return await client.post("/generate", json=body, headers={"accept": accept, **headers})


async def figures(client: httpx.AsyncClient) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the values of the labels."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return {(s.name, tuple(s.labels[k] for k in sorted(s.labels))): s.value for f in families for s in f.samples}


async def settled(client: httpx.AsyncClient, runs: float) -> dict[tuple[str, tuple[str, ...]], float]:
    """Once so many runs are counted: that follows the answer."""
    while True:
        found = await figures(client)
        if sum(value for (name, _), value in found.items() if name == "plait_runs_total") >= runs:
            return found


async def count(client: httpx.AsyncClient) -> float:
    return sum(value for (name, _), value in (await figures(client)).items() if name == "plait_runs_total")


# --- figures --------------------------------------------------------------------------------------------------


async def test_the_figures_are_those_of_real_runs(client: httpx.AsyncClient) -> None:
    before = await figures(client)
    runs = await count(client)
    await story(client)
    await story(client, streamed=True)
    after = await settled(client, runs + 2)

    def grown(name: str, *labels: str) -> float:
        return after[name, labels] - before.get((name, labels), 0.0)

    assert grown("plait_runs_total", "success", "story") == 2
    assert grown("plait_run_duration_seconds_count", "story") == 2
    assert grown("plait_run_wait_seconds_count", "story") == 2
    assert grown("plait_first_token_seconds_count", "story") == 1
    assert grown("plait_model_calls_total", MODEL) == 2
    assert grown("plait_tokens_total", "input", MODEL) == 2 * 23
    assert grown("plait_tokens_total", "output", MODEL) == 2 * 11
    assert grown("plait_cost_usd_total", MODEL) == pytest.approx(2 * (23 * 1.0 + 11 * 2.0) / 1_000_000)
    assert grown("plait_events_sent_total") > 11
    assert after["plait_call_wait_seconds_total", ("rpm",)] >= 0


async def test_what_runs_and_waits_now_is_shown(client: httpx.AsyncClient, model: Simulator) -> None:
    runs = await count(client)
    model.close_gate()
    body = {"workflow": "story", "inputs": {"topic": SECRET}}
    accept = {"accept": "text/event-stream"}
    async with client.stream("POST", "/generate", json=body, headers=accept) as first:
        await model.arrived(1)
        async with client.stream("POST", "/generate", json=body, headers=accept) as second:
            found = await figures(client)
            model.open_gate()
            await first.aread()
            await second.aread()
    assert found["plait_runs_running", ("story",)] == 1
    assert found["plait_runs_queued", ("story",)] == 1
    in_flight = {labels: value for (name, labels), value in found.items() if name == "plait_permits_in_flight"}
    assert sum(in_flight.values()) == 1
    assert all(KEY not in label for labels in in_flight for label in labels)
    after = await settled(client, runs + 2)
    assert ("plait_runs_running", ("story",)) not in after


def test_the_hosts_own_registry_is_untouched(service: Watched) -> None:
    assert b"plait_" not in prometheus_client.generate_latest(prometheus_client.REGISTRY)


def test_clients_cannot_make_figures_without_end() -> None:
    metrics = Metrics()
    run = RunRecord("r", "t", "a", status="success", graph_id="story")
    for number in range(300):
        metrics.on_ended(run, Figures(Usage(models={f"m{number}": 1}, tokens={f"m{number}": Tokens(1, 0, 1)})))
    samples = [line for line in metrics.text().decode().splitlines() if line.startswith("plait_model_calls_total{")]
    assert len(samples) == 101
    assert 'plait_model_calls_total{model="other"} 200.0' in samples


def test_a_run_that_never_began_has_no_duration() -> None:
    metrics = Metrics()
    run = RunRecord("r", "t", "a", status="interrupted", graph_id="story")
    metrics.on_queued(run)
    assert b'plait_runs_queued{workflow="story"} 1.0' in metrics.text()
    metrics.on_ended(run, Figures(waited_s=3.0))
    assert b'plait_runs_queued{workflow="story"}' not in metrics.text()
    assert b"plait_run_duration_seconds_count" not in metrics.text()
    assert b'plait_run_wait_seconds_sum{workflow="story"} 3.0' in metrics.text()


def test_a_cost_is_known_only_where_every_price_is() -> None:
    usage = Usage(tokens={"a": Tokens(1_000_000, 0, 0), "b": Tokens(1, 0, 1), "c": Tokens()})
    known = costs(usage, Prices({"a": Price(2.0, 1.0)}))
    assert known == {"a": 2.0}
    assert Figures(usage, costs_usd=known).cost_usd is None
    assert Figures(usage, costs_usd={**known, "b": 1.0}).cost_usd == 3.0


def test_a_listener_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Metrics):
        def on_queued(self, run: RunRecord) -> None:
            raise ValueError("broken")

    metrics = Metrics()
    Listeners([Failing(), metrics]).on_queued(RunRecord("r", "t", "a", graph_id="story"))
    assert b"plait_runs_queued{" in metrics.text()
    assert "a listener of the service failed" in caplog.text


# --- log lines ------------------------------------------------------------------------------------------------


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


async def test_a_run_and_its_request_are_a_line_each_without_what_was_said(
    client: httpx.AsyncClient, service: Watched
) -> None:
    runs = await count(client)
    answer = await client.post(
        "/generate?api_key=hidden", json={"workflow": "story", "inputs": {"topic": SECRET}}, headers={"x-api-key": KEY}
    )
    await settled(client, runs + 1)
    found = lines(service.log)
    (run,) = [line for line in found if line["message"] == "run ended"]
    assert run["run_id"] == answer.json()["run_id"]
    assert run["workflow"] == "story"
    assert run["status"] == "success"
    assert run["level"] == "info"
    assert (run["calls"], run["input_tokens"], run["output_tokens"]) == (1, 23, 11)
    assert run["cost_usd"] == pytest.approx(45e-6)
    assert run["duration_s"] >= 0
    assert run["client"] == "127.0.0.1"
    request = next(line for line in found if line["message"] == "request" and line["method"] == "POST")
    assert (request["path"], request["status"]) == ("/generate", 200)
    assert SECRET not in service.log.getvalue()
    assert KEY not in service.log.getvalue()
    assert "hidden" not in service.log.getvalue()


async def test_a_failed_runs_line_names_the_kind_of_its_error_alone(
    client: httpx.AsyncClient, service: Watched, model: Simulator
) -> None:
    runs = await count(client)
    model.script(Behaviour(status=401, error={"message": f"no {SECRET} for {KEY}"}))
    await story(client)
    await settled(client, runs + 1)
    (run,) = [line for line in lines(service.log) if line["message"] == "run ended"]
    assert (run["level"], run["status"], run["error"]) == ("warning", "error", "CallRefused")
    assert SECRET not in service.log.getvalue()
    assert KEY not in service.log.getvalue()


def ended(error: str = "") -> RunRecord:
    return RunRecord(
        "run-1",
        "thread-1",
        "a",
        status="error" if error else "success",
        graph_id="story",
        client="me",
        kwargs={"input": {"topic": SECRET}},
        error={"error": "ValueError", "message": error} if error else None,
    )


def test_content_is_logged_only_where_that_is_asked_for() -> None:
    with logging_to("json") as log:
        RunLog().on_ended(ended("bad zebras"), Figures())
        RunLog(content=True).on_ended(ended("bad zebras"), Figures())
    without, with_content = lines(log)
    assert SECRET not in json.dumps(without)
    assert with_content["input"] == {"topic": SECRET}
    assert with_content["error_message"] == "bad zebras"


def test_keys_are_hidden_even_where_content_is_logged() -> None:
    with logging_to("json") as log:
        RunLog(content=True).on_ended(ended(f"wrong key {KEY} at http://me:pass@host/"), Figures())
    assert KEY not in log.getvalue()
    assert "pass" not in log.getvalue()


def test_text_lines_are_for_people() -> None:
    with logging_to("text") as log:
        RunLog().on_ended(ended(), Figures(duration_s=1.25))
        logging.getLogger("plait.service").warning("something else")
    first, second = log.getvalue().splitlines()
    assert "INFO plait.service: run ended run_id=run-1 thread_id=thread-1 workflow=story client=me" in first
    assert "duration_s=1.25" in first
    assert second.endswith("WARNING plait.service: something else")


def test_a_mounted_service_leaves_logging_alone(service: Watched, tmp_path: Path) -> None:
    before = (list(logging.root.handlers), logging.root.level, list(logging.getLogger("plait.service").handlers))
    with listening(create_app(settings=settings_in(tmp_path))):
        after = (list(logging.root.handlers), logging.root.level, list(logging.getLogger("plait.service").handlers))
    assert after == before


# --- traces ---------------------------------------------------------------------------------------------------


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def test_a_run_is_a_span_with_its_calls_below_it(client: httpx.AsyncClient, service: Watched) -> None:
    runs = await count(client)
    body = {"workflow": "stories", "inputs": {"topics": [SECRET, "cats"]}}
    run_id = (await client.post("/generate", json=body)).json()["run_id"]
    await settled(client, runs + 1)
    (run,) = named(service.spans, "invoke_workflow stories")
    calls = named(service.spans, f"chat {MODEL}")
    assert run.attributes is not None
    assert run.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert run.attributes["gen_ai.workflow.name"] == "stories"
    assert run.attributes["plait.run_id"] == run_id
    assert run.parent is None
    assert len(calls) == 2
    for call in calls:
        assert call.attributes is not None
        assert call.parent == run.context
        assert call.kind.name == "CLIENT"
        assert call.attributes["gen_ai.operation.name"] == "chat"
        assert call.attributes["gen_ai.provider.name"] == "openai"
        assert call.attributes["gen_ai.request.model"] == MODEL
        assert call.attributes["gen_ai.usage.output_tokens"] == 11
        assert call.attributes["server.address"] == "127.0.0.1"
    everything = "".join(span.to_json() for span in service.spans.get_finished_spans())
    assert SECRET not in everything
    assert KEY not in everything


async def test_a_streamed_call_tells_when_its_first_token_came(client: httpx.AsyncClient, service: Watched) -> None:
    runs = await count(client)
    await story(client, streamed=True)
    await settled(client, runs + 1)
    (call,) = named(service.spans, f"chat {MODEL}")
    assert call.attributes is not None
    assert call.attributes["gen_ai.request.stream"] is True
    assert float(str(call.attributes["gen_ai.response.time_to_first_chunk"])) > 0


async def test_a_clients_trace_goes_on(client: httpx.AsyncClient, service: Watched) -> None:
    runs = await count(client)
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    await story(client, traceparent=f"00-{trace_id}-{parent}-01")
    await settled(client, runs + 1)
    (run,) = named(service.spans, "invoke_workflow story")
    assert run.context is not None
    assert f"{run.context.trace_id:032x}" == trace_id
    assert run.parent is not None
    assert f"{run.parent.span_id:016x}" == parent


async def test_a_failed_run_and_its_call_are_marked(
    client: httpx.AsyncClient, service: Watched, model: Simulator
) -> None:
    runs = await count(client)
    model.script(Behaviour(status=401, error={"message": f"no {SECRET}"}))
    await story(client)
    await settled(client, runs + 1)
    (run,) = named(service.spans, "invoke_workflow story")
    (call,) = named(service.spans, f"chat {MODEL}")
    assert run.status.status_code == StatusCode.ERROR
    assert run.attributes is not None
    assert run.attributes["error.type"] == "CallRefused"
    assert call.status.status_code == StatusCode.ERROR
    assert SECRET not in run.to_json() + call.to_json()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "expected otlp, console or none, found 'zipkin'"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "found 'grpc'"),
    ],
)
def test_variables_that_ask_for_what_there_is_not_are_refused(env: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        exporting(env)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nothing_is_sent_where_nobody_asks_for_it(env: dict[str, str]) -> None:
    assert exporting(env) is None


_SERVE = """
import asyncio, os, sys
import httpx
from langchain_core.tracers.langchain import wait_for_all_tracers
from plait.service import create_app
from plait.service.telemetry import exporting

async def main():
    made = create_app(sys.argv[1])
    async with made.router.lifespan_context(made):
        client = httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://localhost")
        answer = await client.post("/generate", json={"workflow": "steps", "inputs": {"topic": "x"}})
        answer.raise_for_status()

end = exporting(os.environ)
asyncio.run(main())
end()
wait_for_all_tracers()
"""


class _Collector(BaseHTTPRequestHandler):
    """Takes whatever it is sent."""

    got: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
        """Quiet."""


@contextmanager
def collecting() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    got: list[tuple[str, bytes]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Collector", (_Collector,), {"got": got}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()


def test_traces_go_where_the_environment_says_and_to_langsmith_too(tmp_path: Path) -> None:
    with collecting() as (url, got):
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
            "PLAIT_HOME": str(tmp_path),
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_SERVICE_NAME": "my-stories",
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_ENDPOINT": url,
            "LANGSMITH_API_KEY": "lsv2_something",
        }
        subprocess.run([sys.executable, "-c", _SERVE, str(APP)], env=env, check=True, timeout=60)
    (spans,) = [body for path, body in got if path == "/v1/traces"]
    assert b"invoke_workflow steps" in spans
    assert b"my-stories" in spans
    assert any(path.startswith("/runs") for path, _ in got), "LangChain's own tracer sent the run"


# --- access ---------------------------------------------------------------------------------------------------


async def test_an_application_that_raises_is_logged_as_a_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    scope = {"type": "http", "method": "GET", "path": "/x", "client": ("10.0.0.1", 1)}
    with logging_to("json") as log, pytest.raises(RuntimeError):
        await AccessLog(app)(scope, None, None)  # type: ignore[arg-type]
    (line,) = lines(log)
    assert (line["status"], line["client"]) == (500, "10.0.0.1")


def test_the_application_documents_its_figures(tmp_path: Path) -> None:
    made: FastAPI = create_app(settings=settings_in(tmp_path))
    assert "text/plain" in made.openapi()["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
