"""How long runs and nodes took by themselves: without the time in which they did nothing but wait for a permit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from plait.experiments.records import CallTrace, ExampleRun, NodeTrace

__all__ = ["calls_within", "latency_s", "node_latency_s"]

_OWN = "retry"
"""The cause of waiting that is the provider's: an attempt that failed, and the pause that it asked for."""

Span = tuple[float, float]


def latency_s(run: ExampleRun) -> float:
    """Seconds that the run took, less those in which it only waited for permits.

    Left out is the time in which at least one of its calls waited for a permit (causes concurrency, rpm, tpm, quota)
    and none was being served: how long that is depends on what else runs at the time and on `--max-concurrency`, not
    on the workflow. The waits of a call stand at its beginning, one after the other; the rest of it is service, failed
    attempts and the pauses after them (cause retry) included. Other work of nodes while a call waits cannot be told
    from waiting and is left out with it. Without traces it is the whole duration. A run that was narrowed to a node
    takes what all executions of the node do, also those at the same time.
    """
    own = _executions(run)
    if own and math.isclose(run.duration_s, math.fsum(node.duration_s for node in own), rel_tol=1e-9):
        within = calls_within(run.nodes)
        return math.fsum(node_latency_s(node, within.get(node.branch, ())) for node in own)
    calls = [call for node in run.nodes for call in node.calls]
    return max(0.0, run.duration_s - _idle_s(calls, (0.0, run.duration_s)))


def _executions(run: ExampleRun) -> list[NodeTrace]:
    """Those of the one node that all others are nested in; none where there is no such node."""
    name = min((node.name for node in run.nodes), key=len, default="")
    if not name or any(node.name != name and not node.name.startswith(f"{name}/") for node in run.nodes):
        return []
    return [node for node in run.nodes if node.name == name]


def node_latency_s(node: NodeTrace, calls: Sequence[CallTrace]) -> float:
    """The same for one execution of a node; `calls` are its own and those of nodes nested in it (`calls_within`)."""
    return max(0.0, node.duration_s - _idle_s(calls, (node.began_s, node.began_s + node.duration_s)))


def calls_within(nodes: Iterable[NodeTrace]) -> Mapping[str, Sequence[CallTrace]]:
    """By branch, the calls made there and in nodes nested in it; branches without any are left out."""
    found: dict[str, list[CallTrace]] = {}
    for node in nodes:
        if node.calls:
            steps = node.branch.split("/")
            for end in range(1, len(steps) + 1):
                found.setdefault("/".join(steps[:end]), []).extend(node.calls)
    return found


def _idle_s(calls: Iterable[CallTrace], within: Span) -> float:
    """Seconds within the span in which some call waits for a permit and none is served."""
    waits: list[Span] = []
    services: list[Span] = []
    for call in calls:
        ended_s = call.began_s + call.duration_s
        waited_s = math.fsum(wait_s for cause, wait_s in call.waits.items() if cause != _OWN)
        # The waits are rounded and measured by another clock: they end with the call at the latest.
        sent_s = min(call.began_s + max(waited_s, 0.0), ended_s)
        if sent_s > call.began_s:
            waits.append((call.began_s, sent_s))
        services.append((sent_s, ended_s))
    if not waits:
        return 0.0
    serving = _union(services, within)
    return _length(_union([*_union(waits, within), *serving], within)) - _length(serving)


def _union(spans: Iterable[Span], within: Span) -> list[Span]:
    """What the spans cover together, in order, cut to `within`."""
    found: list[Span] = []
    for low, high in sorted((max(low, within[0]), min(high, within[1])) for low, high in spans):
        if high <= low:
            continue
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _length(spans: Iterable[Span]) -> float:
    return math.fsum(high - low for low, high in spans)
