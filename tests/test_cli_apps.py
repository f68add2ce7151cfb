"""Foreign LangGraph apps, unchanged, under `plait run`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plait.simulator import Simulator, running
from tests.command import plait, started

APPS = Path(__file__).parent / "apps"


def variables(provider: Simulator) -> dict[str, str]:
    return {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-test"}


@pytest.mark.parametrize("workflow", ["fan_async", "fan_sync"])
def test_clients_of_a_nested_fan_out_never_exceed_max_concurrency(workflow: str, tmp_path: Path) -> None:
    with running() as provider:
        provider.close_gate()
        words = ["run", workflow, "n=4", "m=5", "--max-concurrency", "4", "--app", str(APPS / "nested_clients")]
        with started(*words, "--json", cwd=tmp_path, env=variables(provider)) as command:
            provider.wait_arrived(4)
            provider.open_gate()
            out, err = command.communicate(timeout=60)
        assert command.returncode == 0, err.decode()
        end = json.loads(out.decode().splitlines()[-1])
        assert len(end["outputs"]["answers"]) == 20
        assert end["usage"]["calls"] == 20
        assert provider.peak == 4


@pytest.mark.parametrize("app", sorted(path.name for path in APPS.iterdir() if path.is_dir()))
def test_every_app_can_be_listed(app: str) -> None:
    done = plait("list", "--app", str(APPS / app), "--json")
    assert done.code == 0, done.err
    listed = json.loads(done.out)
    declared = json.loads((APPS / app / "langgraph.json").read_text())["graphs"]
    assert [entry["name"] for entry in listed] == list(declared)


@pytest.mark.parametrize(
    ("app", "workflow", "word"),
    [("flat", "agent", "name=Ada"), ("src_layout", "agent", "text=hello"), ("src_layout_bare", "dotted", "text=hello")],
)
def test_a_foreign_app_runs_from_its_own_folder_and_with_app(
    app: str, workflow: str, word: str, tmp_path: Path
) -> None:
    # As the console script: `python -m` alone would put the folder, with its queue.py, before the standard library.
    inside = plait("run", workflow, word, cwd=APPS / app, env={"PYTHONSAFEPATH": "1"})
    outside = plait("run", workflow, word, "--app", str(APPS / app), cwd=tmp_path)
    assert (inside.code, outside.code) == (0, 0), inside.err + outside.err
    assert inside.out == outside.out != ""
