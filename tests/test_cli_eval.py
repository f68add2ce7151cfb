"""`plait eval` from an experiment's name to scores, an exit code and a way to go on; the session of the docs."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from plait.simulator import Behaviour, Body, Profile, Simulator, running
from tests.command import Ended, endpoint_env, on_terminal, plait, started, write_app
from tests.langsmith_server import LangSmith

STORY = """
from dataclasses import dataclass
from typing import TypedDict
from langgraph.graph import StateGraph
from langgraph.runtime import Runtime
import plait

@dataclass
class Context:
    model: str | None = None
    prompt: str = "write"

class Input(TypedDict):
    topic: str

class State(Input):
    plan: str
    story: str

async def plan(state: State, runtime: Runtime[Context]):
    return {"plan": (await plait.chat_model(runtime.context.model).ainvoke("plan " + state["topic"])).text}

async def write(state: State, runtime: Runtime[Context]):
    if "broken" in state["topic"]:
        raise ValueError("no story")
    wish = runtime.context.prompt + " " + state["plan"]
    return {"story": (await plait.chat_model(runtime.context.model).ainvoke(wish)).text}

builder = StateGraph(State, Context, input_schema=Input)
graph = builder.add_node(plan).add_node(write).add_edge("plan", "write").set_entry_point("plan").compile()
"""

# The simulator repeats what it is asked: a prompt that says "well" passes more often, others as often as each other.
EVALUATORS = """
import zlib
import plait

def good(inputs, outputs) -> bool:
    share = 95 if "well" in outputs["story"] else 45
    return zlib.crc32(outputs["story"].encode()) % 100 < share

def length(outputs) -> int:
    return len(outputs["story"])

def raises(outputs):
    raise KeyError("nothing here")

async def judged(outputs) -> bool:
    return "judge" in (await plait.chat_model().ainvoke("judge " + outputs["story"])).text

def wants_reference(outputs, reference_outputs) -> bool:
    return reference_outputs["story"] == outputs["story"]
"""

EXPERIMENTS = """
[stories]
workflow = "story"
dataset = "topics.jsonl"
evaluators = ["judging.marks:good", "judging.marks:length"]

[strict]
workflow = "story"
dataset = "topics.jsonl"
evaluators = ["judging.marks:good"]
thresholds = {good = ">= 0.99", errors = 0}

[judged]
workflow = "story"
dataset = "topics.jsonl"
evaluators = ["judging.marks:judged"]

[odd]
workflow = "story"
dataset = "topics.jsonl"
evaluators = ["judging.marks:raises", "judging.marks:wants_reference", "judging.marks:length"]
"""


def app_with(folder: Path, topics: list[str]) -> Path:
    """A folder with the workflow `story`, three experiments over the topics, and their evaluators."""
    write_app(folder, story=STORY)
    (folder / "judging").mkdir()
    (folder / "judging" / "__init__.py").touch()
    (folder / "judging" / "marks.py").write_text(EVALUATORS)
    (folder / "eval").mkdir()
    (folder / "eval" / "experiments.toml").write_text(EXPERIMENTS)
    rows = [json.dumps({"id": f"e{number}", "inputs": {"topic": topic}}) for number, topic in enumerate(topics)]
    (folder / "eval" / "topics.jsonl").write_text("".join(f"{row}\n" for row in rows))
    return folder


def topics(count: int) -> list[str]:
    return [f"topic {number}." for number in range(count)]


def scores_of(ended: Ended) -> dict[str, float]:
    return {metric["key"]: metric["mean"] for metric in json.loads(ended.out)["metrics"]}


def test_the_session_finds_a_planted_improvement_and_no_planted_null(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(40))
    (app / "b.txt").write_text("write well")
    with running() as provider:
        env = endpoint_env(provider)
        before = plait("eval", "stories", "--name", "before", cwd=app, env=env)
        assert before.code == 0, before.err
        assert before.err.startswith("stories: 40 examples, 2 evaluators; with n=40 you can detect about 0.22\n"), (
            before.err
        )
        paid = provider.counters.received
        after = plait(
            *("eval", "stories", "--name", "after", "--context", "prompt=@b.txt", "--reuse", "before"), cwd=app, env=env
        )
        assert after.code == 0, after.err
        assert (paid, provider.counters.received - paid) == (80, 40)
        other = plait(
            "eval", "stories", "--name", "other", "--context", "prompt=compose", "--reuse", "before", cwd=app, env=env
        )
        assert other.code == 0, other.err
    better = plait("compare", "before", "after", cwd=app)
    assert better.code == 0, better.err
    assert "after is better in good" in " ".join(better.out.split())
    assert "40 of 80 calls of after were replayed from before" in " ".join(better.out.split())
    null = json.loads(plait("compare", "before", "other", "--json", cwd=app).out)
    assert {metric["key"]: metric["verdict"] for metric in null["metrics"]}["good"] == "cannot tell"
    report = plait("report", "after", "--html", "report.html", cwd=app)
    assert report.code == 0, report.err
    assert "after" in (app / "report.html").read_text()


@pytest.mark.model
@pytest.mark.timeout(300)
def test_the_session_runs_on_the_embedded_model(tmp_path: Path) -> None:
    words = ["eval", "story-quality", "--model", "local:smollm2-135m", "--limit", "2"]
    before = plait(*words, "--name", "before", cwd=tmp_path)
    assert before.code == 0, before.err
    assert "with n=2 you can detect about 0.99" in before.err
    after = plait(*words, "--name", "after", "--reuse", "before", "--context", "prompt=Write one line.", cwd=tmp_path)
    assert after.code == 0, after.err
    compared = plait("compare", "before", "after", cwd=tmp_path)
    assert compared.code == 0, compared.err
    assert plait("report", "after", "--html", "report.html", cwd=tmp_path).code == 0


def test_a_threshold_that_is_not_met_fails_and_says_so(tmp_path: Path) -> None:
    app = app_with(tmp_path, [*topics(8), "broken"])
    with running() as provider:
        ended = plait("eval", "strict", cwd=app, env=endpoint_env(provider))
    assert ended.code == 1
    assert "good: " in ended.err
    assert ">= 0.99 is not met" in ended.err
    assert "errors: 1, <= 0 is not met" in ended.err
    assert "ValueError" in ended.out


def test_errors_are_told_apart_and_fail_what_demands_nothing_else(tmp_path: Path) -> None:
    app = app_with(tmp_path, [*topics(8), "broken"])
    with running() as provider:
        ended = plait("eval", "stories", "--json", cwd=app, env=endpoint_env(provider))
    assert ended.code == 1, ended.err
    assert "errors: 1, <= 0 is not met" in ended.err
    found = json.loads(ended.out)
    assert found["totals"]["errors"] == {"ValueError": 1}
    assert {(metric["key"], metric["examples"], metric["unscored"]) for metric in found["metrics"]} == {
        ("good", 8, 1),
        ("length", 8, 1),
    }


def test_an_experiment_of_failures_alone_fails(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["broken", "broken too"])
    with running() as provider:
        ended = plait("eval", "stories", cwd=app, env=endpoint_env(provider))
    assert ended.code == 1
    assert "none of its 2 runs succeeded" in ended.err


def test_evaluators_that_raise_are_named_and_counted(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(4))
    with running() as provider:
        ended = plait("eval", "odd", cwd=app, env=endpoint_env(provider))
    assert ended.code == 1, ended.err
    told = " ".join(ended.out.split())
    assert "raises" in told
    assert "KeyError" in told
    assert "the example has no reference_outputs" in told
    assert "length" in told


def test_what_is_worse_than_the_baseline_fails(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(40))
    with running() as provider:
        env = endpoint_env(provider)
        well = ["--context", "prompt=write well"]
        first = plait("eval", "stories", "--name", "good", "--update-baseline", *well, cwd=app, env=env)
        assert first.code == 0, first.err
        file = app / "eval" / "baselines" / "stories.json"
        assert len(json.loads(file.read_text())["runs"]) == 40
        assert "wrote the baseline" in first.err
        same = plait("eval", "stories", *well, cwd=app, env=env)
        assert same.code == 0, same.err
        worse = plait("eval", "stories", cwd=app, env=env)
        assert worse.code == 1
        assert "worse than the baseline: good is worse" in worse.err
        named = plait("eval", "stories", *well, "--baseline", "good", cwd=app, env=env)
        assert named.code == 0, named.err
        paid = provider.counters.received
        (app / "eval" / "topics.jsonl").write_text('{"id": "e0", "inputs": {"topic": "another"}}\n')
        changed = plait("eval", "stories", cwd=app, env=env)
        assert changed.code == 2
        assert "write the baseline anew with --update-baseline" in changed.err
        assert provider.counters.received == paid


def test_a_resumed_experiment_is_judged_as_it_was_begun(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(40))
    with running() as provider:
        env = endpoint_env(provider)
        words = ["eval", "stories", "--context", "prompt=write well", "--update-baseline", "--quiet"]
        assert plait(*words, cwd=app, env=env).code == 0
        bounds = ["--budget-tokens", "400", "--max-concurrency", "2"]
        paused = plait("eval", "stories", "--name", "worse", *bounds, cwd=app, env=env)
        assert paused.code == 5, paused.err
        resumed = plait("resume", "worse", "--budget-tokens", "1000000", cwd=app, env=env)
    assert resumed.code == 1
    assert "worse than the baseline: good is worse" in resumed.err


def test_worker_processes_give_the_same_scores(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(30))
    with running() as provider:
        env = endpoint_env(provider)
        alone = plait("eval", "stories", "--json", cwd=app, env=env)
        together = plait("eval", "stories", "--workers", "2", "--json", cwd=app, env=env)
    assert together.code == 0, together.err
    assert scores_of(alone) == scores_of(together)


def test_ctrl_c_lets_runs_end_and_resume_scores_the_rest(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(60))
    with running(Profile(latency_s=0.2, rpm=300, burst=2)) as provider:
        env = endpoint_env(provider)
        with started("eval", "stories", "--name", "long", "--max-concurrency", "2", cwd=app, env=env) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(b"stories: 60 examples")
            while provider.counters.accepted < 12:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert b"plait resume story-" in err
        assert out == b""
        again = plait("eval", "stories", "--name", "long", cwd=app, env=env)
        assert again.code == 2
        assert "not finished: go on with it, plait resume long" in again.err
    with running() as provider:
        resumed = plait("resume", "long", cwd=app, env=endpoint_env(provider))
        assert resumed.code == 0, resumed.err
        assert "good" in resumed.out
    runs = json.loads(plait("report", "long", "--json", cwd=app).out)["totals"]["runs"]
    assert runs == 60


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_kill_loses_no_run_and_pays_neither_runs_nor_judges_twice(tmp_path: Path, workers: str) -> None:
    app = app_with(tmp_path, topics(30))
    with running(Profile(latency_s=0.1)) as provider:
        env = endpoint_env(provider)
        words = ["eval", "judged", "--name", "killed", "--max-concurrency", "4", "--workers", workers]
        with started(*words, cwd=app, env=env) as process:
            while provider.counters.accepted < 45:
                assert process.poll() is None
            process.kill()
        resumed = plait("resume", "killed", cwd=app, env=env)
        assert resumed.code == 0, resumed.err
        # Calls in flight, and answers on their way to the disk.
        assert 90 <= provider.counters.accepted <= 90 + 16
    found = json.loads(plait("report", "killed", "--json", cwd=app).out)
    assert [(metric["key"], metric["scores"], metric["mean"]) for metric in found["metrics"]] == [("judged", 30, 1.0)]


def test_no_model_is_no_bill(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(2))
    ended = plait("eval", "stories", cwd=app)
    assert ended.code == 2
    assert "expected a model, found none" in ended.err
    assert not list(tmp_path.glob("state/plait/batches/*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["storys"], "did you mean 'stories'?"),
        (["stories", "--reuse", "befor"], "there is no experiment 'befor'"),
        (["stories", "--baseline", "nothing.json"], "cannot read the baseline "),
        (["stories", "--baseline", "x", "--update-baseline"], "expected --baseline or --update-baseline, found both"),
        (["stories", "--repetitions", "0"], "--repetitions: expected 1 or more, found 0"),
        (["stories", "--split", "hard"], "no example is in the split 'hard'"),
        (["stories", "--name", "a/b"], "--name: expected up to 100 characters without slashes"),
        (["stories", "--budget-usd", "-1"], "--budget-usd: expected a number above 0"),
        (["stories", "--context", "promt=x"], "promt"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_paid(tmp_path: Path, words: list[str], said: str) -> None:
    app = app_with(tmp_path, topics(2))
    with running() as provider:
        ended = plait("eval", *words, cwd=app, env=endpoint_env(provider))
        assert provider.counters.received == 0
    assert ended.code == 2, ended.err
    assert said in ended.err
    assert ended.err.count("\n") <= 3
    assert "Traceback" not in ended.err


def test_other_datasets_are_compared_on_request_alone(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(6))
    with running() as provider:
        env = endpoint_env(provider)
        assert plait("eval", "stories", "--name", "six", cwd=app, env=env).code == 0
        assert plait("eval", "stories", "--name", "four", "--limit", "4", cwd=app, env=env).code == 0
    refused = plait("compare", "six", "four", cwd=app)
    assert refused.code == 2
    assert "2 only in six (e4, e5)" in refused.err
    assert "--intersect" in refused.err
    assert plait("compare", "six", "four", "--intersect", cwd=app).code == 0


def test_one_example_says_what_cannot_be_said(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(1))
    with running() as provider:
        ended = plait("eval", "stories", cwd=app, env=endpoint_env(provider))
    assert ended.code == 0, ended.err
    assert "with one example no difference can be told from chance" in ended.err


def test_a_terminal_shows_the_run_and_then_its_scores(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(10))
    with (
        running(Profile(latency_s=0.05)) as provider,
        on_terminal("eval", "stories", cwd=app, env=endpoint_env(provider), size=(60, 40)) as terminal,
    ):
        shown = terminal.read_to_end()
    assert "10 examples" in shown
    assert "good" in shown
    assert "scores" in shown


def test_a_judge_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(4))
    (app / "eval" / "experiments.toml").write_text(
        EXPERIMENTS.replace(
            'evaluators = ["judging.marks:good", "judging.marks:length"]',
            'evaluators = [{use = "judge", criteria = "It is a story.", key = "is_story"}]',
        )
    )

    def refusing(body: Body, index: int) -> Behaviour | None:
        return Behaviour(status=401) if "It is a story." in str(body["messages"]) else None

    with running() as provider:
        provider.behave = refusing
        ended = plait("eval", "stories", "--name", "judged", cwd=app, env=endpoint_env(provider))
        assert ended.code == 4, ended.err
        assert "plait resume" in ended.err
        provider.behave = lambda body, index: None
        paid = sum("It is a story." not in str(request.body) for request in provider.requests)
        resumed = plait("resume", "judged", cwd=app, env=endpoint_env(provider))
        assert sum("It is a story." not in str(request.body) for request in provider.requests) == 8 >= paid
    # The simulator's answer is no verdict of a judge: that is told apart, too.
    assert "is_story" in resumed.out + resumed.err


async def test_an_experiment_is_sent_to_langsmith_on_request_alone(provider: Simulator, tmp_path: Path) -> None:
    app = app_with(tmp_path, topics(3))
    async with LangSmith() as langsmith:
        env = endpoint_env(provider) | langsmith.env
        quiet = await asyncio.to_thread(plait, "eval", "stories", "--name", "quiet", cwd=app, env=env)
        assert quiet.code == 0, quiet.err
        assert langsmith.requests == []
        sent = await asyncio.to_thread(plait, "eval", "stories", "--name", "sent", "--langsmith", cwd=app, env=env)
        assert sent.code == 0, sent.err
        assert "sent to LangSmith: " in sent.err
        assert (len(langsmith.sessions), len(langsmith.examples), len(langsmith.feedback)) == (1, 3, 6)
        again = await asyncio.to_thread(plait, "report", "quiet", "--langsmith", cwd=app, env=env)
        assert again.code == 0, again.err
        assert (len(langsmith.sessions), len(langsmith.examples)) == (2, 3)
        langsmith.forbids = 403
        refused = await asyncio.to_thread(plait, "eval", "stories", "--langsmith", cwd=app, env=env)
    assert refused.code == 1
    assert "send it again: plait report " in refused.err
    paid = provider.counters.received
    without = await asyncio.to_thread(plait, "eval", "stories", "--langsmith", cwd=app, env=endpoint_env(provider))
    assert without.code == 2
    assert "--langsmith: expected a key of LangSmith, found none: set LANGSMITH_API_KEY" in without.err
    assert provider.counters.received == paid
