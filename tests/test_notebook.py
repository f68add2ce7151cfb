"""plait in a notebook: a real kernel, whose event loop runs already, awaits runs and reads their tokens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from plait.simulator import Simulator, running

KERNEL = "plait-tests"

IMPORT = "import json, plait"

RUN = """
result = await plait.run("story", {"topic": "a magical forest"})
print(json.dumps([result.status, result.usage.calls, sorted(result.outputs)]))
"""

STREAM = """
tokens = []
async for event in plait.stream("stories", {"topics": ["a forest", "a city"]}):
    if event.type == "token":
        tokens.append(event)
print(json.dumps([event.type, len(tokens) > 2, len({token.label for token in tokens})]))
"""

CONCURRENTLY = """
import asyncio
many = await asyncio.gather(*(plait.run("story", {"topic": f"topic {n}"}) for n in range(5)))
print(json.dumps([result.status for result in many]))
"""

STOPPED = """
task = asyncio.ensure_future(plait.run("story", {"topic": "never"}))
await asyncio.sleep(0)
task.cancel()
try:
    await task
except asyncio.CancelledError:
    print(json.dumps("cancelled"))
again = await plait.run("story", {"topic": "after"})
print(json.dumps(again.status))
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of this very interpreter, registered where only this test looks."""
    folder = tmp_path / "jupyter" / "kernels" / KERNEL
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": KERNEL, "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return KERNEL


def printed(cells: list[str], provider: Simulator, *, kernel: str, folder: Path) -> list[list[object]]:
    """Execute the cells in a kernel started in `folder`; returns the JSON lines that each printed."""
    environ = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-test", "PLAIT_MODEL": "openai:m"}
    first = f"import os\nos.environ.update({environ!r})"
    code = [nbformat.v4.new_code_cell(cell) for cell in [first, *cells]]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=code)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=60, kernel_name=kernel, resources={"metadata": {"path": str(folder)}})
    client.execute()
    outputs = []
    for cell in notebook.cells[1:]:
        text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        outputs.append([json.loads(line) for line in text.splitlines()])
    return outputs


def test_a_notebook_runs_and_streams_workflows_in_its_running_loop(kernel: str, tmp_path: Path) -> None:
    with running() as provider:
        cells = [IMPORT, RUN, STREAM, CONCURRENTLY, STOPPED]
        imported, run, streamed, concurrent, stopped = printed(cells, provider, kernel=kernel, folder=tmp_path)
    assert imported == []
    assert run == [["success", 1, ["story"]]]
    assert streamed == [["end", True, 2]]
    assert concurrent == [["success"] * 5]
    assert stopped == ["cancelled", "success"]
