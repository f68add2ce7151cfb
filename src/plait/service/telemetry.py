"""Traces of runs for OpenTelemetry: a span for each run, and one for each of its model calls below it.

Names and attributes are those of the GenAI conventions (https://github.com/open-telemetry/semantic-conventions-genai,
gen-ai-agent-spans and client-inference; in development as of version 1.41). No span holds a prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from plait.errors import SettingsError
from plait.flow.calls import Call, Meter
from plait.flow.recorders import Answer, Observer
from plait.flow.timings import Timing
from plait.flow.usage import Tokens
from plait.service.listeners import Figures
from plait.store.service.records import RunRecord

_NAME = "plait"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_OTHER = "_OTHER"
"""The conventions' word for an error whose kind is not known."""
_PROVIDERS = {
    "anthropic.com": "anthropic",
    "openai.azure.com": "azure.ai.openai",
    "deepseek.com": "deepseek",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
    "cohere.com": "cohere",
    "googleapis.com": "gcp.gen_ai",
}
"""By the end of the host's name; others speak OpenAI's API and count as `openai`, as the conventions have it."""


class Traces:
    """A Listener that makes spans. `provider` None: the process's own, which is where a host's spans go."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = (provider or trace.get_tracer_provider()).get_tracer(_NAME)
        self._parents: dict[str, Context] = {}
        self._spans: dict[str, Span] = {}

    def on_queued(self, run: RunRecord) -> None:
        # The span of the request that asks, if there is one; the run begins in a task of its own.
        self._parents[run.run_id] = contexts.get_current()

    def on_started(self, run: RunRecord) -> Observer | None:
        span = self._tracer.start_span(
            f"invoke_workflow {run.graph_id}",
            self._parents.pop(run.run_id, None) or Context(),
            SpanKind.INTERNAL,
            {
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": run.graph_id,
                "gen_ai.conversation.id": run.thread_id,
                "plait.run_id": run.run_id,
                "plait.attempt": run.attempt,
            },
        )
        self._spans[run.run_id] = span
        context = trace.set_span_in_context(span)
        # For spans of the workflow's own. Never detached: the context ends with the run's task.
        contexts.attach(context)
        return _Calls(self._tracer, context) if span.is_recording() else None

    def on_first_token(self, run: RunRecord, seconds: float) -> None:
        span = self._spans.get(run.run_id)
        if span is not None:
            span.set_attribute("plait.first_token_s", seconds)

    def on_sent(self, run: RunRecord, events: int) -> None:
        """Stands in the metrics."""

    def on_reader_cut(self, run: RunRecord) -> None:
        """Stands in the metrics."""

    def on_moved(self, run: RunRecord) -> None:
        self._parents.pop(run.run_id, None)
        if (span := self._spans.pop(run.run_id, None)) is not None:
            span.end()

    def on_ended(self, run: RunRecord, figures: Figures) -> None:
        self._parents.pop(run.run_id, None)
        span = self._spans.pop(run.run_id, None)
        if span is None:
            return
        span.set_attributes({"plait.status": run.status, "plait.waited_s": figures.waited_s})
        if figures.cost_usd is not None:
            span.set_attribute("plait.cost_usd", figures.cost_usd)
        if run.status in ("error", "timeout"):
            kind = str((run.error or {}).get("error") or run.status)
            span.set_attribute("error.type", kind)
            # Without the message, which may quote a prompt.
            span.set_status(Status(StatusCode.ERROR, kind))
        span.end()


class _Calls:
    """Makes the spans of one run's calls; the Observer of its scope."""

    def __init__(self, tracer: Tracer, context: Context) -> None:
        self._tracer = tracer
        self._context = context

    def replays(self, call: Call, answer: Answer) -> None:
        span = self._begun(call)
        span.set_attributes({"plait.replayed": True, **_usage(answer.tokens)})
        span.end()

    def begins(self, call: Call) -> Callable[[Meter | None, Timing], None]:
        span = self._begun(call)

        def ends(meter: Meter | None, timing: Timing) -> None:
            for cause, seconds in timing.waits.items():
                span.set_attribute(f"plait.wait.{cause}_s", seconds)
            if call.streamed and timing.first_token_s:
                span.set_attribute("gen_ai.response.time_to_first_chunk", timing.first_token_s)
            if meter is None:
                span.set_attribute("error.type", _OTHER)
                span.set_status(Status(StatusCode.ERROR))
            else:
                span.set_attributes(_usage(meter.tokens))
            span.end()

        return ends

    def _begun(self, call: Call) -> Span:
        url = urlsplit(call.endpoint)
        host = url.hostname or ""
        attributes: dict[str, str | int | bool] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _provider(host),
            "gen_ai.request.model": call.model,
            "gen_ai.request.stream": call.streamed,
            "server.address": host,
            "server.port": url.port or (80 if url.scheme == "http" else 443),
        }
        if call.most_tokens is not None:
            attributes["gen_ai.request.max_tokens"] = call.most_tokens
        return self._tracer.start_span(f"chat {call.model}".strip(), self._context, SpanKind.CLIENT, attributes)


class TraceContext:
    """ASGI middleware that goes on with a client's trace (`traceparent`), unless something around it does already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or trace.get_current_span().get_span_context().is_valid:
            await self._app(scope, receive, send)
            return
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        token = contexts.attach(self._propagator.extract(sent))
        try:
            await self._app(scope, receive, send)
        finally:
            contexts.detach(token)


def exporting(env: Mapping[str, str]) -> Callable[[], None] | None:
    """Send this process's spans where its OTEL_ variables say; for plait's own processes, never a host's.

    None where they ask for nothing. Else what is to be called, in a thread, at the end: it sends what is left.
    Raises SettingsError where they ask for what is not installed or not known.
    """
    exporter = env.get("OTEL_TRACES_EXPORTER") or ("otlp" if any(env.get(name) for name in _ENDPOINTS) else "none")
    if exporter == "none" or env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    protocol = next((env[name] for name in _PROTOCOLS if env.get(name)), _HTTP)
    if exporter not in ("otlp", "console"):
        raise SettingsError(f"OTEL_TRACES_EXPORTER: expected otlp, console or none, found {exporter!r}")
    if exporter == "otlp" and protocol != _HTTP:
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: expected {_HTTP}, found {protocol!r}: use the collector's HTTP port"
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError("OTEL_ variables ask for traces, which need: pip install 'plait[otel]'") from error
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before this name.
    provider = SdkProvider(resource=Resource({"service.name": _NAME}).merge(Resource.create()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter() if exporter == "otlp" else ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _provider(host: str) -> str:
    return next((name for ending, name in _PROVIDERS.items() if f".{host}".endswith(f".{ending}")), "openai")


def _usage(tokens: Tokens) -> dict[str, int]:
    found = {"gen_ai.usage.input_tokens": tokens.input, "gen_ai.usage.output_tokens": tokens.output}
    return found | ({"gen_ai.usage.cache_read.input_tokens": tokens.cached} if tokens.cached else {})
