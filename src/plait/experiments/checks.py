"""What is found wrong with an experiment before anything is paid: ids of examples, clusters, nodes of evaluators."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from plait.datasets import Example
from plait.errors import InputError
from plait.runs import Graph

__all__ = ["check_clusters", "check_ids", "check_nodes"]


def check_ids(examples: Sequence[Example], repetitions: int, *, dataset: str) -> None:
    """Raise InputError where an example is called as a repetition of another one is."""
    known = {example.id for example in examples}
    for again in (example.id for example in examples):
        first, _, number = again.rpartition("#")
        if first in known and number in map(str, range(2, repetitions + 1)):
            raise InputError(
                f"{dataset}: expected ids that differ when examples are repeated, found {first!r} and {again!r}, "
                f"which a row of {first!r} is called with {repetitions} repetitions: rename one of them"
            )


def check_clusters(examples: Sequence[Example], cluster: str | None, *, dataset: str) -> None:
    """Raise InputError where no example says which cluster it is of: intervals would count none, unseen."""
    if cluster is None or any(cluster in (example.metadata or {}) for example in examples):
        return
    keys = list(dict.fromkeys(key for example in examples for key in example.metadata or {}))
    raise InputError(f"{dataset}: cluster: no example has the metadata key {cluster!r}{_instead(cluster, keys)}")


def check_nodes(graph: Graph, nodes: Iterable[str | None], *, alone: str | None) -> None:
    """Raise InputError for an evaluator's node that `graph` has not; `alone` is the one that is run alone."""
    known = [name for name in graph.nodes if not name.startswith("__")]
    for node in nodes:
        # What is below a node may be made while it runs.
        if node is not None and node.partition("/")[0] not in known:
            where = f"of {alone}, which is run alone" if alone else "of the workflow"
            raise InputError(f"an evaluator's node: expected one {where}, found {node!r}{_instead(node, known)}")


def _instead(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known) or 'none'}"
