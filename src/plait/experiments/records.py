"""An experiment as it is read back: its runs with their scores and traces, and what it was run with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plait.datasets.examples import Example
from plait.store.rows import RowError

__all__ = ["CallTrace", "ExampleRun", "Experiment", "Failure", "NodeTrace", "Origin", "Score", "ToolTrace"]


@dataclass(frozen=True, slots=True)
class Score:
    """What an evaluator says of one run (or, of an experiment, a summary evaluator).

    `score` is a bool (passed or not), a finite number, or None where there is only a category: `value`. `comment` is
    the evaluator's reason. An evaluator may leave out `key`: it is its own name then.
    """

    key: str = ""
    score: bool | float | None = None
    value: str | None = None
    comment: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    node: str | None = None
    """The node whose outputs were scored; None: the workflow's."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An evaluator that gave no score of one run; never counted as one. `type` is the exception's name."""

    evaluator: str
    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTrace:
    """A model call of a run. Times are in seconds, `began_s` from the run's beginning."""

    model: str
    began_s: float
    duration_s: float
    waits: Mapping[str, float] = field(default_factory=dict)
    """By cause: concurrency, rpm, tpm, quota, retry."""
    first_token_s: float = 0.0
    generation_s: float = 0.0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    replayed: bool = False
    """Whether the journal answered it: nothing was sent."""
    reused: bool = False
    """Whether that answer was another experiment's: nothing was paid either."""
    failed: bool = False
    cost_usd: float | None = None
    """What it costs, or, where it was replayed, what it cost when it was paid; None without a price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTrace:
    """One execution of a node, with the calls made in it (those of graphs nested in it stand at their own nodes)."""

    name: str
    """With the nodes around its graph: `research/search`."""
    branch: str
    """The path that tells siblings apart: `research@1/search@2[3]`."""
    began_s: float
    duration_s: float
    calls: tuple[CallTrace, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTrace:
    """A tool that ran, in the order they began: the trajectory of an agent."""

    name: str
    args: Mapping[str, object]
    began_s: float
    duration_s: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRun:
    """One run of one example. A run that failed has an `error`, no outputs and no scores."""

    position: int
    example: Example
    repetition: int = 0
    """From 0; an experiment with several repetitions has a run for each."""
    status: str = "success"
    """success, error, timeout or interrupted."""
    outputs: object = None
    error: RowError | None = None
    scores: tuple[Score, ...] = ()
    failures: tuple[Failure, ...] = ()
    duration_s: float = 0.0
    usage: Mapping[str, object] = field(default_factory=dict)
    """Of the workflow: calls (paid now), replayed_calls, input_tokens, output_tokens, cost_usd, models, ..."""
    judge_usage: Mapping[str, object] = field(default_factory=dict)
    """Of the evaluators' model calls, in the same form."""
    nodes: tuple[NodeTrace, ...] = ()
    tools: tuple[ToolTrace, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What an experiment was run with."""

    commit: str | None = None
    dirty: bool = False
    """Whether the app's folder had changes that are in no commit."""
    dataset: str = ""
    """Its path or name."""
    dataset_hash: str = ""
    model: str | None = None
    context: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    """By package."""
    workflow_digest: str = ""
    """Of the app's code and graph: differs when they do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """An experiment that was run. `runs` are in the order of the dataset, the repetitions of an example together."""

    id: str
    """Of its batch."""
    name: str
    definition: str
    """What it is called in experiments.toml; the workflow's name where it was given in Python."""
    workflow: str
    place: str
    """Where it is kept: a folder, or its id in a database."""
    status: str
    """running, paused or finished."""
    created_at: float
    """In seconds since the epoch."""
    duration_s: float = 0.0
    """From the beginning of its first run to the end of its last, in seconds."""
    repetitions: int = 1
    runs: tuple[ExampleRun, ...] = ()
    summary_scores: tuple[Score, ...] = ()
    summary_failures: tuple[Failure, ...] = ()
    summary_usage: Mapping[str, object] = field(default_factory=dict)
    """Of the summary evaluators' model calls, in the form of a run's."""
    lower_is_better: frozenset[str] = frozenset()
    """Keys of scores of which less is better, such as latencies; of all others more is."""
    cluster: str | None = None
    """The metadata key whose equal values mark examples that belong together."""
    node: str | None = None
    """The node that was run alone; None: the whole workflow."""
    reused: str | None = None
    """The name of the experiment whose answers were replayed."""
    mixed: bool = False
    """Whether it was gone on with after its code or evaluators had changed: its runs are of both."""
    origin: Origin = field(default_factory=Origin)
    thresholds: Mapping[str, str] = field(default_factory=dict)
    """By score's key (or `errors`), what CI demands: `>= 0.8`."""
