"""What a batch began with, so that a resume can say what has changed since."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from plait.runs import Graph

_OURS = Path(__file__).resolve().parents[1]


def describe_workflow(graph: Graph, folder: Path | None) -> dict[str, str]:
    """Digests by what they are of: the graph's shape, and the app's files that it was loaded from. Reads files."""
    drawn = graph.get_graph()
    shape = "\n".join(
        sorted([f"node {name}" for name in drawn.nodes])
        + sorted(f"edge {edge.source} {edge.target} {edge.data or ''}" for edge in drawn.edges)
    )
    found = {"the graph's nodes and edges": _digest(shape.encode())}
    if folder is not None:
        for file in _loaded_files(folder):
            found[str(file.relative_to(folder))] = _digest(file.read_bytes())
    return found


def workflow_changes(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """In words, what differs; empty where nothing does. A file that is not loaded any more is no change by itself."""
    changed = [what for what, digest in now.items() if what in before and before[what] != digest]
    return changed + [f"{what} (new)" for what in now if before and what not in before]


def _loaded_files(folder: Path) -> list[Path]:
    folder = folder.resolve()
    files = set()
    for module in list(sys.modules.values()):
        source = getattr(module, "__file__", None)
        if isinstance(source, str) and source.endswith(".py"):
            file = Path(source).resolve()
            # An app in plait's own repository has plait's modules beside it.
            if file.is_relative_to(folder) and not (
                _is_installed(file.relative_to(folder)) or file.is_relative_to(_OURS)
            ):
                files.add(file)
    return sorted(files)


def _is_installed(relative: Path) -> bool:
    return any(part in {"site-packages", ".venv", "venv", "node_modules"} for part in relative.parts)


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()
