"""Batches on real Ray clusters of this machine: the same results, what is refused, and what dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest

import plait
from plait.app import App, find_app
from plait.batches import BatchOptions
from plait.batches.answers import Paid
from plait.batches.channels import Halted, Orders, State, Wanted
from plait.batches.ray_clusters import RayWorkplace, _check_versions
from plait.batches.ray_links import RayLink, first_words
from plait.batches.ray_sessions import _new_folder, nodes_elsewhere
from plait.batches.workplaces import NoRoom
from plait.errors import SettingsError
from plait.scale.ray_actors import versions
from plait.settings import Settings, from_env
from plait.simulator import Simulator, running
from plait.store.answers import Answers
from tests.batch_apps import app_with
from tests.command import PATIENCE_S, endpoint_env, started
from tests.command import plait as command
from tests.ray_clusters import Cluster, ray_cluster
from tests.reliability.rays import kill_on_ray

pytest.importorskip("ray", reason="needs the extra plait[ray]")

TEXTS = [f"text {number}" for number in range(40)]


@pytest.fixture(scope="module")
def cluster() -> Generator[Cluster]:
    with ray_cluster(cpus=2) as found:
        yield found


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    """Of batches in this process, which can use one alone."""
    return find_app(app_with(tmp_path_factory.mktemp("app"), []))


@pytest.fixture
def settings(provider: Simulator, tmp_path: Path) -> Settings:
    env = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "k", "PLAIT_HOME": str(tmp_path / "home")}
    return replace(from_env(env), model="openai:gpt-4.1-mini", max_attempts=2)


def until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60.0
    while not reached():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


# --- the same results --------------------------------------------------------------------------------


def test_results_are_the_same_to_the_byte_in_process_in_workers_and_on_ray(tmp_path: Path) -> None:
    app, found = app_with(tmp_path / "app", TEXTS), []
    ways: dict[str, list[str]] = {
        "here": [],
        "workers": ["--workers", "2"],
        "ray": ["--workers", "2", "--ray", "local"],
    }
    with running() as provider:
        for name, words in ways.items():
            out = tmp_path / f"{name}.jsonl"
            ended = command(
                *("batch", "ask", "texts.jsonl", "--out", str(out), *words), cwd=app, env=endpoint_env(provider)
            )
            assert ended.code == 0, ended.err
            assert ended.out == ""
            found.append(out.read_bytes())
        assert provider.counters.received == 3 * len(TEXTS)
    assert found[0].count(b"\n") == len(TEXTS)
    assert found[0] == found[1] == found[2]


async def test_a_batch_in_a_hosts_process_leaves_its_environment_as_it_was(
    cluster: Cluster, settings: Settings, provider: Simulator, app: App
) -> None:
    before, handlers = dict(os.environ), signal.getsignal(signal.SIGTERM)
    options = BatchOptions(ray=cluster.address, workers=1, budget_tokens=1_000_000)
    rows = [{"text": text} for text in TEXTS]
    batch = plait.batch("ask", rows, app=app, settings=settings, options=options)
    records = [row async for row in batch]
    assert sorted(record.position for record in records) == list(range(len(TEXTS)))
    assert all(record.outputs for record in records)
    assert provider.counters.received == len(TEXTS)
    assert os.environ.items() ^ before.items() == set()
    assert signal.getsignal(signal.SIGTERM) == handlers
    until(lambda: not cluster.workers(), "the worker has ended")


def test_an_experiment_is_scored_on_ray(cluster: Cluster, tmp_path: Path) -> None:
    app = app_with(tmp_path / "app", ["a", "bb"])
    (app / "eval").mkdir()
    (app / "marks.py").write_text("def long(outputs) -> int:\n    return outputs['length']\n")
    (app / "eval" / "experiments.toml").write_text(
        '[lengths]\nworkflow = "count"\ndataset = "../texts.jsonl"\nevaluators = ["marks:long"]\n'
    )
    with running() as provider:
        words = ["--ray", cluster.address, "--workers", "1", "--ray-timeout", "5m", "--json"]
        ended = command("eval", "lengths", *words, cwd=app, env=endpoint_env(provider))
    assert ended.code == 0, ended.err
    (metric,) = json.loads(ended.out)["metrics"]
    assert (metric["key"], metric["mean"]) == ("long", 1.5)


def test_variables_of_the_app_reach_workers_of_this_machine_and_the_shells_win(
    cluster: Cluster, tmp_path: Path
) -> None:
    app, names = app_with(tmp_path / "app", ["FROM_FILE", "FROM_SHELL", "OPENAI_API_KEY"]), ["FROM_FILE", "FROM_SHELL"]
    description = json.loads((app / "langgraph.json").read_text())
    (app / "langgraph.json").write_text(json.dumps(description | {"env": dict.fromkeys(names, "file")}))
    source = (app / "count.py").read_text().replace('len(state["text"])', '__import__("os").environ[state["text"]]')
    (app / "count.py").write_text(source.replace("length: int", "length: str"))
    words = ["--ray", cluster.address, "--workers", "1"]
    with running() as provider:
        env = endpoint_env(provider) | {"FROM_SHELL": "shell", "OPENAI_API_KEY": "sk-shell"}
        ended = command("batch", "count", "texts.jsonl", *words, cwd=app, env=env)
    assert ended.code == 0, ended.err
    assert {row["id"]: row["outputs"] for row in map(json.loads, ended.out.splitlines())} == {
        "r0": {"text": "FROM_FILE", "length": "file"},
        "r1": {"text": "FROM_SHELL", "length": "shell"},
        "r2": {"text": "OPENAI_API_KEY", "length": "sk-shell"},
    }


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ray://10.0.0.1:10001", "Ray's client protocol is not used; run plait on a machine of the cluster"),
        ("somewhere", "expected HOST:PORT of the cluster's head, auto or local, found 'somewhere'"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(address: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        BatchOptions(ray=address)


@pytest.mark.parametrize(
    ("address", "named"), [("127.0.0.1:1", "--ray 127.0.0.1:1"), ("auto", r"--ray auto \(RAY_ADDRESS=127.0.0.1:1\)")]
)
async def test_a_cluster_that_is_not_there_leaves_no_batch_behind(
    address: str, named: str, settings: Settings, app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(SettingsError, match=rf"{named}: nobody is there \(.*ray status"):
        async for _ in plait.batch(
            "ask", [{"text": "a"}], app=app, settings=settings, options=BatchOptions(ray=address)
        ):
            pass
    assert not list((tmp_path / "home" / "batches").iterdir())


@pytest.mark.parametrize("scheme", ["ray", "http"])
async def test_a_ray_address_for_something_else_is_refused_with_a_cure(
    scheme: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"{scheme}://user:secret@127.0.0.1:10001")
    expected = f"--ray auto: RAY_ADDRESS: expected HOST:PORT of the cluster's head, found {scheme}://...: unset it"
    with pytest.raises(SettingsError, match=expected) as raised:
        await RayWorkplace("auto", app).__aenter__()
    assert "secret" not in str(raised.value)


def test_another_version_on_a_machine_is_refused_with_both_named() -> None:
    with pytest.raises(SettingsError, match=r"expected plait \S+ on every machine .*, found 0\.0\.1 on node-7"):
        _check_versions(versions(), versions() | {"plait": "0.0.1", "host": "node-7"})


def test_only_other_machines_count_as_elsewhere() -> None:
    nodes = [{"NodeManagerAddress": address} for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]
    assert nodes_elsewhere(nodes, "10.0.0.1") == ["10.0.0.2"]


def test_folders_of_rays_are_private_and_those_of_dead_processes_go() -> None:
    making = "from plait.batches.ray_sessions import _new_folder; print(_new_folder()[0])"
    dead = Path(subprocess.run([sys.executable, "-c", making], check=True, capture_output=True, text=True).stdout[:-1])
    assert dead.is_dir()
    first, one = _new_folder()
    second, two = _new_folder()
    try:
        assert not dead.exists()
        assert Path(first).is_dir()
        assert Path(second).stat().st_mode & 0o777 == 0o700
        assert len(first) <= 107 - 65
    finally:
        shutil.rmtree(first)
        shutil.rmtree(second)
        os.close(one)
        os.close(two)


def test_of_a_dead_actor_the_first_sentence_is_told() -> None:
    words = "The actor is dead because its worker process has died"
    assert first_words(RuntimeError(f"The actor died.\n{words}. Worker exit type: X. (1) out of memory")) == words


def test_without_ray_workers_work_and_the_extra_is_named(tmp_path: Path) -> None:
    app = app_with(tmp_path / "app", ["a"])
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('no ray here', name='ray')")
    with running() as provider:
        env = endpoint_env(provider) | {"PYTHONPATH": str(tmp_path)}
        assert command("batch", "count", "texts.jsonl", "--workers", "2", cwd=app, env=env).code == 0
        ended = command("batch", "count", "texts.jsonl", "--ray", "local", cwd=app, env=env)
    assert (ended.code, ended.out) == (2, "")
    assert "plait: --ray: expected Ray, found none: pip install 'plait[ray]'" in ended.err


async def test_a_worker_that_finds_no_place_says_what_is_missing(
    cluster: Cluster, settings: Settings, app: App
) -> None:
    async with RayWorkplace(cluster.address, app, workers=2) as first:
        links = await asyncio.gather(*(first.hire(orders(app, settings)) for _ in range(2)))
        expected = "asked for 3 of 1 CPU each, the cluster has 2, 0 of them free: give a smaller --workers"
        async with RayWorkplace(cluster.address, app, workers=3, timeout_s=1.0) as late:
            with pytest.raises(NoRoom, match=expected):
                await late.hire(orders(app, settings))
        for link in links:
            await link.dismissed()
    until(lambda: not cluster.workers(), "all workers have ended")


# --- what dies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("silence_s", "no_word_s", "fate"),
    [(1.0, 600.0, "no answer for 1 s"), (30.0, 1.0, "not a word for 1 s: does a node block its event loop?")],
)
async def test_a_worker_that_does_not_answer_is_given_up_and_ends(
    cluster: Cluster, settings: Settings, app: App, silence_s: float, no_word_s: float, fate: str
) -> None:
    async with RayWorkplace(cluster.address, app, workers=1, silence_s=silence_s) as place:
        link = await place.hire(orders(app, settings))
        while not isinstance(message := await link.receive(), State):
            assert message is not None
        link._no_word_s = no_word_s  # a worker takes its time to begin
        (pid,) = cluster.workers()
        os.kill(pid, signal.SIGSTOP)
        while await link.receive() is not None:
            pass
        assert await link.dismissed() == fate
        os.kill(pid, signal.SIGCONT)
    until(lambda: not cluster.workers(), "the worker has ended")


def test_a_worker_and_the_batch_are_killed_and_only_the_calls_in_flight_are_lost(
    cluster: Cluster, tmp_path: Path
) -> None:
    assert kill_on_ray(tmp_path, cluster, rows=60, kills=2, seed=7).kills == 2


def test_ctrl_c_twice_ends_the_workers_and_a_resume_here_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    app, words = app_with(tmp_path / "app", TEXTS), ["--ray", cluster.address, "--workers", "1", "--out", "o.jsonl"]
    with running() as provider:
        provider.close_gate()
        with started("batch", "ask", "texts.jsonl", *words, cwd=app, env=endpoint_env(provider)) as batch:
            provider.wait_arrived(len(TEXTS))
            batch.send_signal(signal.SIGINT)
            assert batch.stderr is not None
            while b"Ctrl-C again" not in batch.stderr.readline():
                pass
            batch.send_signal(signal.SIGINT)
            batch.communicate(timeout=PATIENCE_S)
            assert batch.returncode == 130
        until(lambda: not cluster.workers(), "the worker has ended")
        provider.open_gate()
        ended = command("resume", "--workers", "2", cwd=app, env=endpoint_env(provider))
    assert ended.code == 0, ended.err


# --- other machines ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machines(cluster: Cluster) -> Cluster:
    """With a node that takes itself for another machine; from here on the cluster is none for SQLite files."""
    cluster.add("127.0.0.2", cpus=1)
    return cluster


async def test_sqlite_files_are_refused_where_other_machines_would_write_them(
    machines: Cluster, settings: Settings, app: App
) -> None:
    options = BatchOptions(ray=machines.address)
    batch = plait.batch("ask", [{"text": "a"}], app=app, settings=settings, options=options)
    with pytest.raises(SettingsError, match=r"found SQLite files of this one \(127.0.0.2 .*--store postgresql://"):
        async for _ in batch:
            pass


async def test_a_machine_that_joined_later_is_another_one_all_the_same(
    machines: Cluster, settings: Settings, app: App, tmp_path: Path
) -> None:
    async with RayWorkplace(machines.address, app, workers=3) as place:
        place._open.elsewhere = []  # as the batch saw it when it began
        files = replace(orders(app, settings), answers=Answers(tmp_path / "answers.db"))
        hired = await asyncio.gather(*(place.hire(files) for _ in range(3)), return_exceptions=True)
        (refused,) = [each for each in hired if isinstance(each, BaseException)]
        assert re.search(r"found SQLite files of this one \(127.0.0.2 cannot write them\)", str(refused))
        until(lambda: len(machines.workers()) == 2, "the worker there has ended")
        for link in hired:
            if not isinstance(link, BaseException):
                await link.dismissed()
    until(lambda: not machines.workers(), "all workers have ended")


async def test_the_app_travels_and_results_come_from_the_store(
    machines: Cluster, postgres: str, settings: Settings, provider: Simulator, app: App
) -> None:
    options = BatchOptions(ray=machines.address, workers=3)
    rows = [{"text": text} for text in [*TEXTS, "bad"]]
    batch = plait.batch("ask", rows, app=app, settings=replace(settings, store=postgres), options=options)
    records = sorted([row async for row in batch], key=lambda row: row.position)
    assert [row.status for row in records] == [*["success"] * len(TEXTS), "error"]
    assert [row.outputs for row in records[:2]] == [
        {"text": f"text {n}", "answer": f"Answer to: text {n}"} for n in range(2)
    ]
    assert provider.counters.received == len(TEXTS)


async def test_an_app_that_does_not_load_on_a_machine_says_why_and_where(
    machines: Cluster, settings: Settings, loads_here_alone: App
) -> None:
    async with RayWorkplace(machines.address, loads_here_alone, workers=3) as place:
        links = await asyncio.gather(*(place.hire(orders(loads_here_alone, settings)) for _ in range(3)))
        said = [await first_of(link, Halted, Wanted) for link in links]
        (halted,) = [message for message in said if isinstance(message, Halted)]
        assert re.search(r"worker \d+ on \S+: workflow 'count' .*left_behind", str(halted.cause()))
        for link in links:
            await link.dismissed()
    until(lambda: not machines.workers(), "all workers have ended")


@pytest.fixture
def loads_here_alone(tmp_path: Path) -> App:
    """An app that imports what does not travel with it."""
    app = app_with(tmp_path / "app", ["a"])
    (app / ".hidden").mkdir()
    (app / ".hidden" / "left_behind.py").write_text("")
    start = "import sys; sys.path.append(__file__.rpartition('/')[0] + '/.hidden'); import left_behind\n"
    (app / "count.py").write_text(start + (app / "count.py").read_text())
    return find_app(app)


async def first_of(link: RayLink, *kinds: type) -> object:
    """The first message of one of these kinds."""
    while not isinstance(message := await link.receive(), kinds):
        assert message is not None
    return message


def orders(app: App, settings: Settings) -> Orders:
    return Orders(
        workflow="count",
        app=app.root,
        settings=settings,
        context={},
        options=BatchOptions(),
        group="group",
        answers=None,
        paid=Paid(),
        spent={},
    )
