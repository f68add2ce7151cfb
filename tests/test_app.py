"""Finding an app and loading its workflows. One process holds one app, so each app is tried in a process."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from plait.app import App, Workflow, apply_env, find_app, workflow
from plait.errors import AppError, WorkflowNotFound
from plait.simulator import running

ROOT = Path(__file__).resolve().parents[1]
APPS = ROOT / "tests" / "apps"


def in_a_process(code: str, *, cwd: Path = APPS, **environ: str) -> Any:
    """Runs code that fills `out`, with everything of plait.app imported; returns `out`."""
    program = (
        "import asyncio, json, sys\nfrom pathlib import Path\nfrom plait.app import *\n"
        "from plait.app import find_app, workflow, activate, open_workflow, load_workflow\n"
        "from plait.errors import *\nout = {}\n" + textwrap.dedent(code) + "\nprint(json.dumps(out))\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PLAIT", "LANGSMITH"))}
    env |= {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"} | environ
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def app_file(folder: Path, content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "langgraph.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_the_nearest_langgraph_json_above_is_the_app(tmp_path: Path) -> None:
    file = app_file(tmp_path, {"graphs": {"a": "./a.py:graph"}})
    deep = tmp_path / "some" / "where"
    deep.mkdir(parents=True)
    found = find_app(start=deep)
    assert (found.file, found.root, found.bundled) == (file, tmp_path, False)
    assert found.workflows == {"a": Workflow("a", "./a.py:graph")}


def test_app_can_be_a_folder_or_a_file_and_wins_over_the_working_directory(tmp_path: Path) -> None:
    app_file(tmp_path / "here", {"graphs": {"here": "a:graph"}})
    file = app_file(tmp_path / "there", {"graphs": {"there": "a:graph"}})
    for given in (file.parent, file):
        assert list(find_app(given, start=tmp_path / "here").workflows) == ["there"]


def test_without_a_langgraph_json_the_app_is_our_own(tmp_path: Path) -> None:
    found = find_app(start=tmp_path)
    assert found.bundled
    assert found.file == ROOT / "langgraph.json"
    assert find_app(start=ROOT / "src").bundled


def test_everything_in_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / ".env").write_text("# keys\nKEY=secret\nexport QUOTED='a b'\nEMPTY\n")
    found = find_app(
        app_file(
            tmp_path,
            {
                "dependencies": [".", "./lib", "./absent", "httpx"],
                "graphs": {"a": {"path": "a:graph", "description": "What it does."}},
                "env": ".env",
                "plait": {"model": "openai:m"},
            },
        )
    )
    assert found.workflows["a"] == Workflow("a", "a:graph", "What it does.")
    assert found.env == {"KEY": "secret", "QUOTED": "a b"}
    assert "KEY" not in os.environ
    assert "secret" not in repr(found)
    assert found.section == {"model": "openai:m"}
    assert found.import_folders == (tmp_path, tmp_path / "src", tmp_path / "lib")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"graphs": {"a" "b:c"}}', "langgraph.json:1:17: expected JSON"),
        ("", ":1:1: expected JSON"),
        ('{\n "graphs": {\n  "a" "b"}}', "line 3, column 7"),
        ([], 'expected an object with "graphs", found a list'),
        ({}, "found nothing"),
        ({"graphs": {}}, "found an empty object"),
        ({"graphs": ["a"]}, "found a list"),
        ({"graphs": {"a": "b:c"}, "plait": 3}, '"plait": expected an object with settings, found a number'),
        ({"graphs": {"a": "b:c"}, "env": ["A"]}, '"env": expected an object or the path'),
        ({"graphs": {"a": "b:c"}, "env": {"A": None}}, "found null for 'A'"),
        ({"graphs": {"a": "b:c"}, "env": ".env"}, "/.env, found none: create it"),
        ({"graphs": {"a": "b:c"}, "dependencies": "."}, "expected a list of strings, found a string"),
    ],
)
def test_a_broken_langgraph_json_is_described(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(AppError) as raised:
        find_app(app_file(tmp_path, content))
    assert message in str(raised.value)
    assert str(tmp_path / "langgraph.json") in str(raised.value)


def test_a_missing_env_file_with_an_example_says_how_to_make_it(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("KEY=\n")
    with pytest.raises(AppError, match=r"cp .*\.env\.example .*\.env"):
        find_app(app_file(tmp_path, {"graphs": {"a": "b:c"}, "env": "./.env"}))


def test_no_app_where_one_was_named_is_described(tmp_path: Path) -> None:
    with pytest.raises(AppError, match=r"expected a folder with a langgraph\.json, found none"):
        find_app(tmp_path)
    with pytest.raises(AppError, match=r"expected a folder or a langgraph\.json, found none"):
        find_app(tmp_path / "nowhere")


def test_a_broken_entry_does_not_hide_the_others() -> None:
    found = find_app(APPS / "broken")
    assert found.workflows["good"].error is None
    assert "expected a string" in (found.workflows["number"].error or "")
    assert "write './good.py:graph'" in (found.workflows["no_dot"].error or "")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(WorkflowNotFound, match=r"did you mean 'agent'.*workflows: agent, again"):
        workflow(find_app(APPS / "flat"), "agnet")


def test_apply_env_does_not_replace_what_is_set() -> None:
    app = App(file=Path(), root=Path(), workflows={}, env={"HOME": "elsewhere", "PLAIT_TEST_ONLY": "new"})
    home = os.environ["HOME"]
    try:
        apply_env(app)
        assert (os.environ["HOME"], os.environ["PLAIT_TEST_ONLY"]) == (home, "new")
    finally:
        os.environ.pop("PLAIT_TEST_ONLY", None)


def test_finding_an_app_imports_neither_langgraph_nor_langchain() -> None:
    out = in_a_process("""
        find_app(Path("flat"))
        out["heavy"] = [name for name in sys.modules if name.split(".")[0] in {"langgraph", "langchain_core"}]
    """)
    assert out == {"heavy": []}


def test_a_flat_app_runs_unchanged_once_and_clashes_with_another_of_its_names(tmp_path: Path) -> None:
    app_file(tmp_path, {"graphs": {"other": "./other.py:graph"}})
    out = in_a_process(
        """
        import builtins
        app = find_app(Path("flat"))
        again, graph = load_workflow(app, "again"), load_workflow(app, "agent")
        out["greeting"] = graph.invoke({"name": "you"})["greeting"]
        out["names"] = [again.name, graph.name]
        out["executions"] = builtins.flat_executions
        out["module"] = sys.modules["agent"].__file__

        other = find_app(Path(OTHER))
        activate(other)
        (other.root / "agent.py").write_text("")
        activate(app)
        try:
            activate(other)
        except AppError as error:
            out["clash"] = str(error)
    """.replace("OTHER", repr(str(tmp_path)))
    )
    assert out["greeting"] == "hello you"
    assert out["names"] == ["again", "agent"]
    assert out["executions"] == 1
    assert out["module"] == str(APPS / "flat" / "agent.py")
    assert "'agent'" in out["clash"]
    assert str(APPS / "flat") in out["clash"]


@pytest.mark.parametrize("layout", ["src_layout", "src_layout_bare"])
def test_a_src_layout_runs_unchanged(layout: str) -> None:
    out = in_a_process(
        """
        import builtins
        app = find_app()
        graph, dotted = load_workflow(app, "agent"), load_workflow(app, "dotted")
        out["text"] = graph.invoke({"text": "x"})["text"]
        out["executions"] = builtins.src_executions
        out["name"] = graph.name
        files = {name: str(getattr(module, "__file__", "")) for name, module in sys.modules.items()}
        out["modules"] = sorted(name for name, file in files.items() if "src_layout" in file)
        """,
        cwd=APPS / layout / "src" / "agent",
    )
    assert (out["text"], out["executions"], out["name"]) == ("x relative absolute", 1, "named by its author")
    assert [name for name in out["modules"] if name != "agent"] == [
        "agent.graph",
        "agent.nodes",
        "agent.state",
    ]


def test_an_apps_own_graphs_beat_ours_and_installed_packages(tmp_path: Path) -> None:
    for name in ("graphs", "chains"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('an installed package')")
    out = in_a_process(
        """
        app = find_app(Path("own_graphs"))
        for name in app.workflows:
            out[name] = load_workflow(app, name).invoke({"text": ""})["text"]
        out["modules"] = [sys.modules["graphs.story"].__name__, sys.modules["my_agent.agent"].__name__]
        bundled = find_app(start=Path("/"))
        try:
            load_workflow(bundled, next(iter(bundled.workflows)))
        except AppError as error:
            out["second"] = str(error)
        """,
        PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{tmp_path}{os.pathsep}{ROOT}",
    )
    assert out["story"] == out["by_path"] == "the user's own story"
    assert out["flagged"] == "my_agent"
    assert out["modules"] == ["graphs.story", "my_agent.agent"]
    assert "use one app per process" in out["second"]


def test_a_module_of_the_host_is_not_taken_for_the_apps() -> None:
    out = in_a_process("""
        import types
        sys.modules["agent"] = types.ModuleType("agent")
        sys.modules["agent"].__file__ = "/host/agent.py"
        try:
            load_workflow(find_app(Path("flat")), "agent")
        except WorkflowBroken as error:
            out["error"] = str(error)
    """)
    assert "/host/agent.py" in out["error"]
    assert "process of its own" in out["error"]


BROKEN = {
    "number": ["expected a string", "found 5"],
    "object": ["expected a string", "no path"],
    "no_colon": ["expected 'package.module:variable'", "'./good.py'"],
    "no_dot": ["write './good.py:graph'"],
    "absolute": ["expected a path relative to"],
    "escapes": ["expected a path inside", "'../flat/agent.py'"],
    "no_file": ["found nothing at", "god.py"],
    "moved": ["did you mean ./nested/parts.py?"],
    "no_variable": ["expected a variable 'grahp'", "graphs there: graph, unfinished"],
    "a_string": ["expected a graph", "found str", "graphs there: graph"],
    "javascript": ["expected a graph written in Python"],
    "no_module": ["expected the package 'nowhere'", "pip install nowhere"],
    "raises": ["JSONDecodeError", "deep.py:7"],
    "exits": ["exits (code 3)", "exits.py:5"],
    "syntax": ["invalid syntax", "syntax.py:3"],
    "needs": ["pip install no-such-package-anywhere", "needs.py:3"],
    "needs_own": ["expected the app's module 'nested.missing'", "needs_own.py:3"],
    "not_compiling": ["expected a graph that compiles", "good.py"],
    "factory_raises": ["expected a factory that returns a graph", "RuntimeError: no database", "good.py:22"],
    "factory_of_text": ["found str"],
    "greedy": ["at most two arguments", "give 'third' a default"],
}


@functools.cache
def broken_messages() -> dict[str, list[str]]:
    messages: dict[str, list[str]] = in_a_process("""
        app = find_app(Path("broken"))
        for name in app.workflows:
            try:
                out[name] = [load_workflow(app, name).invoke({"text": ""})["text"], ""]
            except WorkflowBroken as error:
                out[name] = [str(error), type(error.__cause__).__name__]
    """)
    return messages


def test_the_good_workflow_of_a_broken_app_runs() -> None:
    assert broken_messages()["good"] == ["good", ""]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_workflow_says_in_one_line_what_where_and_why(name: str) -> None:
    message, _ = broken_messages()[name]
    assert all(part in message for part in BROKEN[name]), message
    assert "\n" not in message
    assert f"workflow {name!r}" in message


def test_what_user_code_raised_is_the_cause() -> None:
    causes = {name: broken_messages()[name][1] for name in ("raises", "exits", "syntax", "needs")}
    assert causes == {
        "raises": "JSONDecodeError",
        "exits": "SystemExit",
        "syntax": "SyntaxError",
        "needs": "ModuleNotFoundError",
    }


def test_factories_of_every_kind_are_opened_and_closed() -> None:
    out = in_a_process("""
        app = find_app(Path("factories"))
        config = {"configurable": {"tone": "warm"}}

        async def main():
            for name in app.workflows:
                async with open_workflow(app, name, config=config) as graph:
                    out[name] = [(await graph.ainvoke({"text": ""}))["text"], graph.name]
            try:
                async with open_workflow(app, "async_manager") as graph:
                    raise KeyError("from the block")
            except KeyError:
                out["block"] = "its own error"

        asyncio.run(main())
        out["closed"] = sys.modules["factories"].closed
        out["sync"] = {}
        for name in app.workflows:
            try:
                out["sync"][name] = load_workflow(app, name).invoke({"text": ""})["text"]
            except WorkflowBroken as error:
                assert f"async with plait.open({name!r})" in str(error)
                out["sync"][name] = "plait.open"
    """)
    closed, sync, block = out.pop("closed"), out.pop("sync"), out.pop("block")
    texts = {name: text for name, (text, _) in out.items()}
    assert texts == {
        "builder": "builder",
        "function": "function",
        "with_config": "with_config warm",
        "by_dict": "by_dict warm",
        "async_function": "async_function",
        "async_config": "async_config warm",
        "sync_manager": "sync_manager",
        "async_manager": "async_manager",
        "runtime": "runtime threads.create_run",
        "both": "both warm threads.create_run",
        "defaults": "defaults True 3",
        "entry": "entry",
    }
    assert all(name == graph_name for name, (_, graph_name) in out.items())
    assert closed == ["sync_manager", "async_manager", "async_manager"]
    assert block == "its own error"
    needs_open = {"async_function", "async_config", "sync_manager", "async_manager", "both"}
    assert {name for name, result in sync.items() if result == "plait.open"} == needs_open
    assert sync["with_config"] == "with_config None"


def test_nested_fan_outs_with_clients_of_their_own_run_async_and_sync() -> None:
    with running() as provider:
        out = in_a_process(
            """
            app = find_app(Path("nested_clients"))
            for name in app.workflows:
                graph = load_workflow(app, name)
                out[name] = sorted(asyncio.run(graph.ainvoke({"n": 2, "m": 2}))["answers"])
            """,
            OPENAI_BASE_URL=provider.base_url,
            OPENAI_API_KEY="none",
        )
    answers = [f"Answer to: question {branch}.{i}" for branch in range(2) for i in range(2)]
    assert out == {"fan_async": answers, "fan_sync": answers}
