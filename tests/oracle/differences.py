"""Where our server is meant to answer otherwise than the reference, and why; docs/service-compatibility.md tells it."""

from __future__ import annotations

from tests.oracle.comparisons import MISSING, Difference
from tests.oracle.observations import Json

_THERE = "A thread has `error` and `interrupts` from its first moment."
_ASKED = "A run's `kwargs` hold what the client asked for, not the server's own settings."
_NOT_FOUND = "What does not exist is 404 at once, also where a stream or an answer could tell it later."
_UNPROCESSABLE = "A value that cannot be right is 422 everywhere."
_CATS: Json = {"topic": "cats", "trail": ["first", "second", "third cats"], "total": 3}
_CHECKPOINT = "A checkpoint's metadata hold what its run says, not what is said of its thread."
_LATEST = "A thread's config is that of its latest run."
_ROLLED = "A thread that was rolled back to its beginning has empty values."
_EMPTY = "A thread without a checkpoint that can be read has no values."
_JSON = "A body that is not said to be JSON is 415: other kinds any page may send to a server of this machine."
_RESUME = "An answer that nothing waited for begins the graph, as it does in process."
_NAMES = "Every run names its graph."
_COPY = "A copied thread answers with its values and its config."

DIFFERENCES: tuple[Difference, ...] = (
    Difference("*", "*", "*.metadata.thread_id", MISSING, _CHECKPOINT),
    Difference("*", "*", "*.metadata.checkpoint_id", MISSING, _CHECKPOINT),
    Difference("states", "*", "body.*metadata.k", MISSING, _CHECKPOINT),
    Difference("states", "copy", "body.config.*", ["t"], _COPY),
    Difference("states", "copy", "body.config.*", 9, _COPY),
    Difference("states", "copy", "body.config.*", {}, _COPY),
    Difference("overtaken_runs", "*: thread", "body.config.recursion_limit", MISSING, _LATEST),
    Difference("refused_inputs", "thread", "body.values", None, _EMPTY),
    Difference("cancelled_runs", "rollback: thread", "body.values", {}, _ROLLED),
    Difference("assistants_refused", "not said to be JSON", "status", 415, _JSON),
    Difference("*", "*", "body.error", None, _THERE),
    Difference("*", "*", "body.interrupts", {}, _THERE),
    Difference("*", "*", "body*.kwargs.checkpoint", None, _ASKED),
    Difference("*", "*", "body*.kwargs.config.configurable.*_id", MISSING, _ASKED),
    Difference("*", "*", "body*.kwargs.config.metadata", MISSING, _ASKED),
    Difference("system", "ok", "body.services", MISSING, "We have no services to list."),
    Difference("system", "info", "body.flags.langsmith_tracing_*", MISSING, "We list the flags that we have."),
    Difference("system", "info", "body.host.*", MISSING, "We list the flags that we have."),
    Difference(
        "browsers",
        "preflight",
        "value.1",
        "http://localhost:3000",
        "Pages that this machine serves may ask, others only where `--cors-origin` names them.",
    ),
    Difference("threads_kept", "copy", "body.values", None, _COPY),
    Difference(
        "states",
        "copy",
        "body.values",
        {"topic": "cats", "trail": ["first", "second", "third cats"], "total": 3},
        _COPY,
    ),
    Difference("threads_refused", "copy nobody", "status", 404, _NOT_FOUND),
    Difference("runs_unknown", "join", "status", 404, _NOT_FOUND),
    Difference("runs_unknown", "stream", "status", 404, _NOT_FOUND),
    Difference("cancelled_runs", "rollback: join", "status", 404, _NOT_FOUND),
    Difference("threads_found", "by no UUID", "status", 422, _UNPROCESSABLE),
    Difference("runs_unknown", "limit is text", "status", 422, _UNPROCESSABLE),
    Difference("items_refused", "empty namespace", "status", 422, _UNPROCESSABLE),
    Difference("items_refused", "get without a key", "status", 422, _UNPROCESSABLE),
    Difference("items_refused", "*", "body", {"detail": "<str>"}, "Every error is JSON with a `detail`."),
    Difference("states", "* checkpoint", "body.checkpoint.checkpoint_ns", "", "A checkpoint has its namespace."),
    Difference(
        "interrupted_runs",
        "join",
        "body.text",
        "hi!",
        "Joining an interrupted run gives its values too.",
    ),
    Difference(
        "streams_joined", "repeated", "value", ["custom", "values"], "A repeated `stream_mode` asks for all of them."
    ),
    Difference("odd_inputs", "nothing to resume", "body.__error__", MISSING, _RESUME),
    Difference("odd_inputs", "nothing to resume", "body.total", 3, _RESUME),
    Difference("odd_inputs", "nothing to resume", "body.trail", ["first", "second", "third nothing"], _RESUME),
    Difference("odd_inputs", "nothing to resume: status", "value", "success", _RESUME),
    Difference("stateless_runs", "in the background", "body.metadata.graph_id", "steps", _NAMES),
    Difference("stateless_runs", "batch", "body.*.metadata.graph_id", "<str>", _NAMES),
)
