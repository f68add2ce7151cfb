"""What LangSmith is told of an experiment: its runs with their children, and its scores, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from plait.experiments.records import CallTrace, ExampleRun, Experiment, NodeTrace, Score, ToolTrace

__all__ = [
    "Feedback",
    "Payload",
    "Project",
    "described",
    "example_id",
    "feedback_of",
    "identity",
    "runs_of",
    "summary_of",
]

Payload = dict[str, object]

_NAMESPACE = UUID("6f4a7d5e-53a4-4e0c-9c0e-5b8f2c1d7a10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Where an experiment's runs go: its session at LangSmith, by name."""

    experiment: Experiment
    name: str
    hide: Callable[[object], object]
    """Turns any value into JSON without secrets."""

    def began(self, run: ExampleRun) -> datetime:
        """When the run began, as LangSmith is told."""
        # Runs keep no time of day: all begin with the experiment, and the position keeps their order.
        return _moment(self.experiment.created_at) + timedelta(microseconds=run.position)

    def run_id(self, run: ExampleRun, *parts: object) -> UUID:
        """The same for the same experiment, run and parts. A UUID of version 7, which LangSmith asks for of runs.

        Its layout is that of RFC 9562, section 5.7: 48 bits of milliseconds, here of the run's beginning, then bits
        that are random there and a digest here.
        """
        digest = uuid5(_NAMESPACE, "/".join(map(str, (identity(self.experiment), run.position, *parts)))).int
        stamp = int(self.began(run).timestamp() * 1000)
        return UUID(int=(stamp << 80) | (0x7 << 76) | (digest & ((1 << 76) - 1) & ~(0x3 << 62)) | (0x2 << 62))


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One score as LangSmith takes it; `run_id` None: of the whole experiment."""

    id: UUID
    key: str
    score: bool | float | None
    value: str | None
    comment: str | None
    source: Payload
    extra: Payload | None
    run_id: UUID | None = None
    began: datetime | None = None


def identity(experiment: Experiment) -> UUID:
    """Of the experiment, the same in every process and different from that of any other."""
    # Ids of batches have no year and few letters; an account at LangSmith is shared by many people for years.
    return uuid5(_NAMESPACE, f"{experiment.id}/{experiment.created_at}")


def example_id(dataset_id: object, id_: str) -> UUID:
    """The id at LangSmith of an example whose own id is `id_`: the same whenever it is sent to that dataset."""
    return uuid5(_NAMESPACE, f"{dataset_id}/{id_}")


def described(experiment: Experiment) -> Payload:
    """The metadata of an experiment's session."""
    origin = experiment.origin
    return {
        "plait_experiment": experiment.id,
        "name": experiment.name,
        "definition": experiment.definition,
        "workflow": experiment.workflow,
        "node": experiment.node,
        "reused": experiment.reused,
        "num_repetitions": experiment.repetitions,
        "duration_s": experiment.duration_s,
        "revision_id": origin.commit,
        "git": {"commit": origin.commit, "dirty": origin.dirty},
        "dataset": origin.dataset,
        "dataset_hash": origin.dataset_hash,
        "model": origin.model,
        "context": dict(origin.context),
        "versions": dict(origin.versions),
        "workflow_digest": origin.workflow_digest,
        "summary_failures": experiment.summary_failures,
    }


def runs_of(project: Project, run: ExampleRun, reference: UUID, version: str | None) -> list[Payload]:
    """The run of an example, its nodes, their model calls and its tools, parents before their children."""
    root_id, began = project.run_id(run), project.began(run)
    hide, error = project.hide, None
    if run.error is not None:
        error = hide(f"{run.error.type}: {run.error.message}")
    elif run.status != "success":
        error = run.status
    metadata = {
        "plait_experiment": project.experiment.id,
        "example": run.example.id,
        "position": run.position,
        "repetition": run.repetition,
        "status": run.status,
        "usage": dict(run.usage),
        "judge_usage": dict(run.judge_usage),
        "evaluator_failures": run.failures,
    }
    if version is not None:
        metadata["example_version"] = version
    root: Payload = {
        "id": root_id,
        "trace_id": root_id,
        "dotted_order": _order(began, root_id),
        "session_name": project.name,
        "name": project.experiment.workflow,
        "run_type": "chain",
        "reference_example_id": reference,
        "inputs": hide(run.example.inputs),
        "outputs": None if run.outputs is None else hide(_named(run.outputs)),
        "error": error,
        "start_time": began,
        "end_time": began + timedelta(seconds=run.duration_s),
        "extra": {"metadata": hide(metadata)},
    }
    return [root, *_children(project, run, root)]


def _children(project: Project, run: ExampleRun, root: Payload) -> Iterator[Payload]:
    parents: dict[str, Payload] = {"": root}
    # Shorter branches first: a node stands behind those around it.
    for number, node in sorted(enumerate(run.nodes), key=lambda pair: pair[1].branch.count("/")):
        entry = _child(project, run, _parent_of(node, parents), ("node", number), node)
        entry |= {"name": node.name or "outside the nodes", "run_type": "chain", "error": project.hide(node.error)}
        entry["extra"] = {"metadata": project.hide({"branch": node.branch})}
        parents.setdefault(node.branch, entry)
        yield entry
        for place, call in enumerate(node.calls):
            called = _child(project, run, entry, ("node", number, "call", place), call)
            yield called | _call(project, call)
    for number, tool in enumerate(run.tools):
        entry = _child(project, run, root, ("tool", number), tool)
        entry |= {"name": tool.name, "run_type": "tool", "error": project.hide(tool.error)}
        yield entry | {"inputs": project.hide(dict(tool.args))}


def _child(
    project: Project,
    run: ExampleRun,
    parent: Payload,
    parts: tuple[object, ...],
    trace: NodeTrace | CallTrace | ToolTrace,
) -> Payload:
    id_ = project.run_id(run, *parts)
    began = project.began(run) + timedelta(seconds=trace.began_s)
    return {
        "id": id_,
        "trace_id": parent["trace_id"],
        "parent_run_id": parent["id"],
        "dotted_order": f"{parent['dotted_order']}.{_order(began, id_)}",
        "session_name": project.name,
        "inputs": {},
        "outputs": {},
        "start_time": began,
        "end_time": began + timedelta(seconds=trace.duration_s),
    }


def _call(project: Project, call: CallTrace) -> Payload:
    usage: Payload = {
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "total_tokens": call.input_tokens + call.output_tokens,
        "input_token_details": {"cache_read": call.cached_tokens},
    }
    if call.cost_usd is not None:
        usage["total_cost"] = call.cost_usd
    metadata = {
        "ls_model_name": call.model,
        "ls_model_type": "chat",
        "usage_metadata": usage,
        "replayed": call.replayed,
        "waits_s": dict(call.waits),
        "first_token_s": call.first_token_s,
        "generation_s": call.generation_s,
    }
    return {
        "name": call.model,
        "run_type": "llm",
        "error": "the call failed" if call.failed else None,
        "extra": {"metadata": project.hide(metadata)},
    }


def feedback_of(project: Project, run: ExampleRun) -> Iterator[Feedback]:
    """The run's scores; evaluators that failed gave none and stand in the run's metadata."""
    for number, score in enumerate(run.scores):
        if score.score is None and score.value is None:
            continue
        id_ = project.run_id(run, "score", score.key, score.node, number)
        yield _feedback(project, score, id_, project.run_id(run), project.began(run))


def summary_of(project: Project) -> Iterator[Feedback]:
    """The scores of the experiment as a whole."""
    for number, score in enumerate(project.experiment.summary_scores):
        if score.score is not None or score.value is not None:
            id_ = uuid5(identity(project.experiment), f"summary/{score.key}/{number}")
            yield _feedback(project, score, id_)


def _feedback(
    project: Project, score: Score, id_: UUID, run_id: UUID | None = None, began: datetime | None = None
) -> Feedback:
    source: Payload = {"plait_experiment": project.experiment.id, "evaluator": score.key}
    if score.node is not None:
        source["node"] = score.node
    extra = project.hide(dict(score.metadata))
    return Feedback(
        id=id_,
        key=score.key,
        score=score.score,
        value=_text(project, score.value),
        comment=_text(project, score.comment),
        source=source,
        extra=extra if isinstance(extra, dict) and extra else None,
        run_id=run_id,
        began=began,
    )


def _text(project: Project, text: str | None) -> str | None:
    return None if text is None else str(project.hide(text))


def _named(outputs: object) -> object:
    """LangSmith takes outputs by name only."""
    return outputs if isinstance(outputs, Mapping) else {"output": outputs}


def _parent_of(node: NodeTrace, known: Mapping[str, Payload]) -> Payload:
    above = node.branch
    while above:
        above = above.rpartition("/")[0]
        if above in known:
            break
    return known[above]


def _order(began: datetime, id_: UUID) -> str:
    return f"{began:%Y%m%dT%H%M%S%fZ}{id_}"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
