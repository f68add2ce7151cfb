"""`plait graph`: a workflow's nodes and edges as Mermaid text, or drawn as a PNG without any service."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from langchain_core.runnables.graph import Graph

from plait.app import App, open_workflow
from plait.cli.apps import open_app
from plait.cli.arguments import writable_target
from plait.drawing import draw, is_inner


def show_graph(name: str, directory: Path | None, *, png: str | None) -> int:
    """Print the graph as Mermaid text, or draw it into the file; returns the exit code."""
    target = writable_target(png, option="--png") if png else None
    app, _ = open_app(directory)
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        graph = asyncio.run(_graph(app, name))
    if target is None:
        out.write(f"{graph.draw_mermaid().rstrip()}\n")
    else:
        target.write_bytes(draw(graph))
        sys.stderr.write(f"wrote {png}\n")
    return 0


async def _graph(app: App, name: str) -> Graph:
    async with open_workflow(app, name) as graph:
        # One level of nested graphs, where they are compiled in; those called inside a node cannot be seen.
        drawable = await graph.aget_graph(xray=1)
        for node in [node for node in drawable.nodes if is_inner(node)]:
            del drawable.nodes[node]
        return drawable
