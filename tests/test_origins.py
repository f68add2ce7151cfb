"""What an experiment records of where it comes from: commit, dataset, context and versions."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from plait.datasets import Example
from plait.experiments.origins import dataset_hash, find_origin
from plait.experiments.records import Origin

WHO = {f"GIT_{role}_{part}": f"t@{role}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}


def git(folder: Path, *arguments: str) -> str:
    # A hook of ours may run this suite: its repository must stay untouched.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | WHO
    done = subprocess.run(["git", *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A repository with an app in a folder of it, committed."""
    repository = tmp_path / "repository"
    folder = repository / "app"
    folder.mkdir(parents=True)
    (folder / "graph.py").write_text("a = 1\n")
    (repository / ".gitignore").write_text("ignored/\n*.log\n")
    git(repository, "init", "--quiet")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "first")
    return folder


async def origin(folder: Path | None, **context: object) -> Origin:
    return await find_origin(folder, dataset="topics.jsonl", dataset_hash="0" * 16, context=context)


async def test_the_commit_of_the_apps_folder_is_recorded_and_clean(app: Path) -> None:
    head = await asyncio.to_thread(git, app, "rev-parse", "HEAD")
    found = await origin(app)
    assert (found.commit, found.dirty) == (head, False)
    assert len(head) == 40


@pytest.mark.parametrize(
    ("file", "dirty"),
    [("app/graph.py", True), ("app/new.py", True), ("app/a.log", False), ("elsewhere.py", False)],
)
async def test_only_changes_in_the_apps_folder_make_it_dirty(app: Path, file: str, dirty: bool) -> None:
    (app.parent / file).write_text("a = 2\n")
    assert (await origin(app)).dirty is dirty


async def test_changes_that_are_staged_are_in_no_commit_yet(app: Path) -> None:
    (app / "new.py").write_text("b = 1\n")
    await asyncio.to_thread(git, app, "add", ".")
    assert (await origin(app)).dirty


async def test_a_folder_without_repository_has_no_commit(tmp_path: Path) -> None:
    found = await origin(tmp_path)
    assert (found.commit, found.dirty) == (None, False)


async def test_a_repository_without_commits_has_none(tmp_path: Path) -> None:
    await asyncio.to_thread(git, tmp_path, "init", "--quiet")
    (tmp_path / "graph.py").write_text("a = 1\n")
    assert (await origin(tmp_path)).commit is None


async def test_an_app_that_is_ignored_is_no_part_of_the_repository_around_it(app: Path) -> None:
    installed = app.parent / "ignored" / "site-packages"
    installed.mkdir(parents=True)
    found = await origin(installed)
    assert (found.commit, found.dirty) == (None, False)


@pytest.mark.parametrize("folder", [None, Path("no/such/folder")])
async def test_no_app_or_no_folder_is_no_error(folder: Path | None) -> None:
    assert (await origin(folder)).commit is None


async def test_without_git_there_is_no_commit_and_no_error(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(app))
    found = await origin(app)
    assert (found.commit, found.dirty) == (None, False)
    assert found.versions["plait"]


async def test_the_repository_of_a_hook_is_not_asked(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of-the-hook"))
    assert (await origin(app)).commit


async def test_looking_starts_no_monitor_that_the_repository_names(app: Path) -> None:
    called = app / "called.log"
    program = app.parent / "monitor"
    program.write_text(f"#!/bin/sh\ntouch {called}\n")
    program.chmod(0o755)
    await asyncio.to_thread(git, app, "config", "core.fsmonitor", str(program))
    assert (await origin(app)).commit
    assert not called.exists()


async def test_a_git_that_never_answers_is_ended_when_the_caller_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    slow = programs / "git"
    slow.write_text(f"#!/bin/sh\necho $$ > {begun}\nexec {sys.executable} -c 'import time; time.sleep(600)'\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    looking = asyncio.create_task(origin(tmp_path))
    pids = [int(line) for line in await asyncio.to_thread(_lines, begun, 3)]
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _lines(pipe: Path, count: int) -> list[str]:
    # Open for both: a pipe that nobody reads for a moment would end its writers.
    with os.fdopen(os.open(pipe, os.O_RDWR)) as lines:
        return [lines.readline() for _ in range(count)]


async def test_versions_of_what_matters_are_recorded() -> None:
    versions = (await origin(None)).versions
    assert versions.keys() >= {"python", "plait", "langchain-core", "langchain-openai", "langgraph", "openai"}
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))


async def test_keys_and_passwords_reach_no_record() -> None:
    found = await find_origin(
        None,
        dataset="https://user:pass@example.org/topics.jsonl",
        dataset_hash="0" * 16,
        model="openai:m",
        context={
            "prompt": "Say hello",
            "nested": {"urls": ["https://me:word@example.org", 3], "key": "sk-abcdefghijklmnop"},
            "own": "prefix my-own-secret suffix",
        },
        keys=["my-own-secret"],
    )
    assert found.dataset == "https://***@example.org/topics.jsonl"
    assert found.context == {
        "prompt": "Say hello",
        "nested": {"urls": ["https://***@example.org", 3], "key": "***"},
        "own": "prefix *** suffix",
    }
    assert found.model == "openai:m"


EXAMPLES = [
    Example(0, "a", {"topic": "rain", "words": 20}, {"mentions": ["rain"]}, {"split": "short"}),
    Example(1, "b", {"topic": "snow"}),
]


def test_the_hash_of_a_dataset_is_the_same_in_any_order_and_whatever_the_metadata_say() -> None:
    told = dataset_hash(EXAMPLES)
    assert len(told) == 16
    assert int(told, 16)
    assert dataset_hash(reversed(EXAMPLES)) == told
    assert dataset_hash([replace(example, metadata=None, position=7) for example in EXAMPLES]) == told
    reordered = replace(EXAMPLES[0], inputs={"words": 20, "topic": "rain"})
    assert dataset_hash([reordered, EXAMPLES[1]]) == told


@pytest.mark.parametrize(
    "changed",
    [
        replace(EXAMPLES[0], id="c"),
        replace(EXAMPLES[0], inputs={"topic": "rain", "words": 21}),
        replace(EXAMPLES[0], reference_outputs=None),
    ],
    ids=["id", "inputs", "reference"],
)
def test_the_hash_differs_where_an_example_does(changed: Example) -> None:
    told = dataset_hash(EXAMPLES)
    assert dataset_hash([changed, EXAMPLES[1]]) != told
    assert dataset_hash(EXAMPLES[:1]) != told
    assert dataset_hash([]) != told
