"""Experiments as tests: pytest runs in processes of their own, with the plugin, over apps written for them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from plait.simulator import Simulator, running
from tests.command import PATIENCE_S, Ended, write_app
from tests.test_docs import FENCE

STORY = """
    from typing import TypedDict

    from langgraph.graph import START, StateGraph
    from plait import chat_model

    class State(TypedDict, total=False):
        topic: str
        plan: str
        story: str

    async def plan(state: State) -> State:
        return {"plan": (await chat_model(temperature=0.9).ainvoke(f"Plan {state['topic']}.")).text}

    def write(state: State) -> State:
        return {"story": chat_model(temperature=0.9).invoke(f"Write {state['plan']}").text}

    builder = StateGraph(State).add_node(plan).add_node(write)
    graph = builder.add_edge(START, "plan").add_edge("plan", "write").compile()
"""
EVALUATORS = """
    from plait import Score, chat_model

    def not_about_cats(inputs):
        return Score(score="cat" not in inputs["topic"], comment="no cats, please")

    async def asked_again():
        try:
            await chat_model().ainvoke("something else")
        except Exception:
            pass

    async def judged(inputs, outputs):
        answer = await chat_model(temperature=0).ainvoke(f"Judge {inputs['topic']}: {outputs['story']}")
        return len(answer.text) > 0
"""
DECLARED = """
    [story-quality]
    workflow = "story"
    dataset = "topics.csv"
    evaluators = ["evaluators:not_about_cats", "evaluators:judged"]
    repetitions = 2
    thresholds = {errors = 0, not_about_cats = ">= 0.5"}
"""
TOPICS = "id,topic\nsea,the sea\ncats,a cat\nrain,rain\n"
MET = """
    import pytest

    @pytest.mark.experiment("story-quality", not_about_cats=">= 0.6", errors=0)
    def test_by_a_marker(): ...

    @pytest.mark.experiment("story-quality")
    def test_by_the_thresholds_of_the_file(): ...

    def test_sync(plait_experiment):
        result = plait_experiment("story-quality")
        result.check("judged", ">= 1")
        assert result.errors == 0
        assert len(result.experiment.runs) == 6

    async def test_async(plait_experiment):
        plait_experiment("story-quality").check("not_about_cats", 0.6)
"""
SWALLOWING = STORY.replace(
    """        return {"story": chat_model""",
    """        try:
            chat_model().invoke("something new")
        except Exception:
            pass
        return {"story": chat_model""",
)
RAISES = """def write(state: State) -> State:
    if state["topic"] == "a cat":
        raise ValueError("no cats")"""
MISSED = """
    import pytest

    @pytest.mark.experiment("story-quality", not_about_cats=">= 0.8", errors=0)
    def test_by_a_marker(): ...

    def test_by_a_check(plait_experiment):
        plait_experiment("story-quality").check("not_about_cats", ">= 0.8")

    @pytest.mark.experiment("story-quality")
    def test_by_the_file(): ...

    @pytest.mark.experiment("story-quality", misspelt="> 0")
    def test_by_an_unknown_key(): ...

    @pytest.mark.experiment("story-qualty")
    def test_of_an_unknown_experiment(): ...

    @pytest.mark.experiment("story-quality", errors="much")
    def test_with_a_bound_that_is_none(): ...

    def test_with_an_unknown_recording(plait_experiment):
        plait_experiment("story-quality", replay="last-week")
"""
MISSED_NAMES = set(re.findall(r"def test_(\w+)", MISSED))
IN_PYTHON = """
    import os
    from dataclasses import replace

    from langchain_openai import ChatOpenAI
    from langgraph.graph import START, StateGraph
    from plait import chat_model
    from plait.experiments import Definition
    from story import State

    async def plan(state):
        # A client of its own, which would not begin without a key.
        model = ChatOpenAI(model="own-model", base_url="http://127.0.0.1:1/v1" if OFFLINE else None)
        return {"plan": (await model.ainvoke(f"Plan {state['topic']}")).text}

    async def write(state):
        return {"story": (await chat_model(temperature=0.9).ainvoke(f"{PROMPT} {state['plan']}")).text}

    OFFLINE = "OFFLINE_DATASET" in os.environ
    PROMPT = "Write"
    graph = StateGraph(State).add_node(plan).add_node(write).add_edge(START, "plan").add_edge("plan", "write").compile()
    SHORT = Definition(
        name="short",
        workflow=graph,
        # Offline there is no such dataset: the recording has its examples.
        dataset="langsmith:topics" if OFFLINE else [{"topic": "the sea"}, {"topic": "rain"}],
        evaluators=(lambda outputs: bool(outputs["story"]),),
    )

    def test_before(plait_experiment):
        plait_experiment(SHORT, name="before", replay="before").check()

    def test_after(plait_experiment):
        global PROMPT
        PROMPT = "Write well"
        plait_experiment(replace(SHORT), name="after", reuse="before", replay="after").check()

    def test_nameless(plait_experiment):
        global PROMPT
        PROMPT = "Write anew"
        plait_experiment(SHORT)
"""
PLUGINS = ("-p", "plait.pytest_plugin", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider")
# A process that opens a connection, or looks a name up, ends there and then.
OFFLINE = """
    import os, sys

    def refuse(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
            os.write(2, f"WENT OUT: {event} {arguments}".encode())
            os._exit(99)

    sys.addaudithook(refuse)
"""


def ran(app: Path, *words: str, env: Mapping[str, str] | None = None) -> Ended:
    """pytest over the app's tests, with the plugin, in an environment without a key, a model or an endpoint."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGINS, *words],
        cwd=app,
        env={**environment(app), **(env or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def environment(app: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return {**kept, "PLAIT_HOME": str(app.parent / "home"), "COLUMNS": "300"}


def endpoint(provider: Simulator) -> dict[str, str]:
    return {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-secret", "PLAIT_MODEL": "openai:test-model"}


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text), encoding="utf-8")


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def failure(out: str, name: str) -> str:
    """What pytest says of one test that failed."""
    found = re.search(rf"^_+ test_{name} _+$(.*?)^(?:_+ test_|=+ )", out, re.MULTILINE | re.DOTALL)
    assert found is not None, out
    return found[1]


def new_app(folder: Path) -> Path:
    app = write_app(folder, story=STORY)
    write(app / "evaluators.py", EVALUATORS)
    write(app / "eval/experiments.toml", DECLARED)
    write(app / "eval/topics.csv", TOPICS)
    write(app / "pytest.ini", "[pytest]\nasyncio_mode = auto\nplait_recordings = recordings\n")
    write(app / "test_stories.py", MET)
    return app


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """An app whose tests ran for real and were recorded; its provider is gone."""
    app = new_app(tmp_path_factory.mktemp("recorded") / "app")
    with running() as provider:
        done = ran(app, "--plait-record", "recordings", env=endpoint(provider))
    return app, done


@pytest.fixture
def app(once: tuple[Path, Ended], tmp_path: Path) -> Path:
    """A copy of the recorded app, with no home, no key and no model, which can go nowhere."""
    shutil.copytree(once[0], tmp_path / "app")
    write(tmp_path / "app/conftest.py", OFFLINE)
    return tmp_path / "app"


def test_experiments_run_once_for_all_tests_that_ask_and_are_summarized(once: tuple[Path, Ended]) -> None:
    _, done = once
    assert done.code == 0, done.out + done.err
    assert "4 passed" in done.out
    summary = done.out[done.out.index("= experiments =") :]
    # 3 topics, twice each, with 2 calls of the workflow and 1 of the judge.
    assert "6 runs, 0 errors; 18 calls paid, 0 replayed" in summary
    assert "not_about_cats  0.6667 [" in summary
    assert ">= 0.6 met" in summary


def test_a_recording_is_one_file_without_keys_or_places_of_the_machine(once: tuple[Path, Ended]) -> None:
    recordings = once[0] / "recordings"
    (file,) = (each for each in recordings.rglob("*") if each.is_file())
    content = file.read_bytes()
    assert b"sk-secret" not in content
    assert str(once[0]).encode() not in content
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (18,)


def test_processes_replay_one_recording_without_network_key_or_model_and_leave_nothing(app: Path) -> None:
    recordings = [app / "recordings", *sorted(app.joinpath("recordings").rglob("*"))]
    for each in recordings:
        each.chmod(0o500 if each.is_dir() else 0o400)
    try:
        with ThreadPoolExecutor() as threads:
            both = list(threads.map(lambda _: ran(app, "--plait-replay"), range(2)))
        assert [app / "recordings", *sorted(app.joinpath("recordings").rglob("*"))] == recordings
    finally:
        for each in recordings:
            each.chmod(0o700)
    for done in both:
        assert done.code == 0, done.out + done.err
        assert "4 passed" in done.out
        assert "6 runs, 0 errors; 0 calls paid, 18 replayed; $0.0000" in done.out
    assert not (app.parent / "home").exists()


def test_a_replay_fails_where_a_prompt_changed_and_names_the_example_the_node_and_the_cure(app: Path) -> None:
    changed(app / "story.py", "Write {", "Write better {")
    changed(app / "eval/topics.csv", "cats,", "new,snow\ncats,")
    done = ran(app, "test_stories.py::test_sync", "--plait-replay")
    assert done.code == 1, done.out
    assert "does not answer all that was asked; nothing was sent" in done.out
    assert "example 'sea': no recorded answer fits this call of test-model (in write@2)" in done.out
    assert "example 'sea#2': " in done.out
    assert "example 'new': it is not in the recording" in done.out
    assert "and 3 more" in done.out
    assert "record it anew: pytest -p plait.pytest_plugin --plait-record" in done.out
    assert "Traceback" not in done.out
    assert "runs.py" not in done.out


def test_a_replay_fails_for_a_call_whose_error_a_node_or_an_evaluator_swallows(app: Path) -> None:
    write(app / "story.py", SWALLOWING)
    changed(app / "evaluators.py", "    answer = await", "    await asked_again()\n    answer = await")
    done = ran(app, "test_stories.py::test_sync", "--plait-replay")
    assert done.code == 1, done.out
    assert "example 'sea': no recorded answer fits this call of test-model (in write@2)" in done.out
    assert "evaluator judged: no recorded answer fits" in done.out


def test_a_replay_names_the_evaluator_whose_prompt_changed(app: Path) -> None:
    changed(app / "evaluators.py", 'f"Judge {', 'f"Judge kindly {')
    done = ran(app, "test_stories.py::test_sync", "--plait-replay")
    assert done.code == 1, done.out
    assert "example 'sea': evaluator judged: no recorded answer fits" in done.out


def test_what_misses_its_threshold_fails_with_figures_and_the_worst_examples(app: Path) -> None:
    write(app / "test_stories.py", MISSED)
    changed(app / "eval/experiments.toml", ">= 0.5", ">= 0.9")
    done = ran(app, "--plait-replay")
    assert done.code == 1, done.out
    assert "7 failed" in done.out
    told = {name: failure(done.out, name) for name in MISSED_NAMES}
    for name in ("by_a_marker", "by_a_check"):
        assert "story-quality: not_about_cats: 0.666667, >= 0.8 is not met" in told[name]
        assert "0.6667 [" in told[name]
        assert "over 3 examples" in told[name]
        assert '\'cats\': 0 (no cats, please): {"topic": "a cat"' in told[name]
        assert "'sea'" not in told[name]
    assert ">= 0.9 is not met" in told["by_the_file"]
    assert "misspelt: > 0 is not met, there is no score" in told["by_an_unknown_key"]
    assert "scores: not_about_cats, judged" in told["by_an_unknown_key"]
    assert "errors: 6, <= 0 is not met" not in done.out
    assert "did you mean 'story-quality'?" in told["of_an_unknown_experiment"]
    assert "found 'much'" in told["with_a_bound_that_is_none"]
    assert "there is no experiment 'last-week'" in told["with_an_unknown_recording"]
    for name in MISSED_NAMES - {"by_a_check"}:
        assert "pytest_plugin/" not in told[name]
        assert "hidden" not in told[name]
        assert "Error" not in told[name]
    assert "0.6667 [" in done.out[done.out.index("= experiments =") :]
    assert ">= 0.8 NOT MET" in done.out[done.out.index("= experiments =") :]


def test_failed_runs_are_named_where_no_error_is_allowed(app: Path) -> None:
    changed(app / "story.py", "def write(state: State) -> State:", RAISES)
    done = ran(app, "test_stories.py::test_by_a_marker", "--plait-replay")
    assert done.code == 1, done.out
    assert "errors: 2, <= 0 is not met" in done.out
    assert "'cats#2': ValueError: node 'write' raised ValueError: no cats" in done.out
    assert "6 runs, 2 errors" in done.out


def test_definitions_in_python_replay_experiments_of_the_home_with_answers_they_reused(tmp_path: Path) -> None:
    app = new_app(tmp_path / "app")
    write(app / "pytest.ini", "[pytest]")
    write(app / "test_stories.py", IN_PYTHON)
    with running() as provider:
        done = ran(app, "-k", "before or after", env=endpoint(provider))
        assert done.code == 0, done.out
        assert "after): 2 runs, 0 errors; 2 calls paid, 2 replayed" in done.out
    write(app / "conftest.py", OFFLINE)
    # The answers that `after` took from `before` are part of it.
    done = ran(app, "-k", "after", "--plait-replay", env={"OFFLINE_DATASET": "1"})
    assert done.code == 0, done.out
    assert "(replayed after): 2 runs, 0 errors; 0 calls paid, 4 replayed" in done.out
    done = ran(app, "--plait-replay", "before", "-k", "nameless")
    assert done.out.count("no recorded answer fits this call of test-model (in write@2)") == 2
    assert "record it anew: run the test without --plait-replay" in done.out
    assert "Traceback" not in done.out
    assert "During handling" not in done.out


def test_options_that_contradict_or_swallow_a_path_are_refused(tmp_path: Path) -> None:
    app = new_app(tmp_path / "app")
    done = ran(app, "--plait-replay", "test_stories.py")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert "found the path test_stories.py: write the option behind the paths" in done.err
    done = ran(app, "--plait-replay", "--plait-record", "recordings")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert "found both: leave one out" in done.err


@pytest.mark.parametrize("number", [0, 1], ids=["replay", "record"])
def test_the_page_on_testing_does_what_it_says(tmp_path: Path, number: int) -> None:
    page = (Path(__file__).parents[1] / "docs/testing.md").read_text(encoding="utf-8")
    app = new_app(tmp_path / "app")
    changed(app / "evaluators.py", "not_about_cats", "mentions_topic")
    changed(app / "evaluators.py", '"cat" not in inputs["topic"]', "True")
    changed(app / "eval/experiments.toml", "not_about_cats", "mentions_topic")
    write(app / "pytest.ini", "[pytest]")
    for language, title, text in FENCE.findall(page):
        if language == "python" or (language == "ini" and number):
            write(app / title, text)
    commands = "".join(text for language, _, text in FENCE.findall(page) if language == "sh").splitlines()
    real, replay = commands[2 * number : 2 * number + 2]
    with running() as provider:
        assert "18 calls paid, 0 replayed" in documented(app, real, endpoint(provider))
    assert "0 calls paid, 18 replayed" in documented(app, replay, {})


def documented(app: Path, command: str, env: Mapping[str, str]) -> str:
    """What a command of the page prints; it must succeed."""
    program, *words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", program, *words, "-p", "no:cacheprovider"],
        cwd=app,
        env={**environment(app), **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
