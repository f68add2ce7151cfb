"""Finds out what an experiment is run with: the commit, the dataset's hash, the versions of what matters."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from plait.datasets.examples import Example
from plait.datasets.identities import content_hash
from plait.experiments.records import Origin
from plait.masking import masked, redacted

__all__ = ["dataset_hash", "find_origin"]

PACKAGES = ("plait", "langchain-core", "langchain-openai", "langgraph", "openai")

_GIT_TIMEOUT_S = 5.0
_HASH_BYTES = 8
# Within a hook git sets these, and they would lead to the repository of the hook.
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")


async def find_origin(
    folder: Path | None,
    *,
    dataset: str,
    dataset_hash: str,
    model: str | None = None,
    context: Mapping[str, object] | None = None,
    workflow_digest: str = "",
    keys: Iterable[str] = (),
) -> Origin:
    """What the experiment of the app in `folder` (None: there is no app) is run with.

    The commit is None without git, without a repository, and where git takes more than 5 s: nothing fails for it.
    `dirty` looks at `folder` only, and is true where git cannot say in 5 s. In `context` `***` stands for `keys`, for
    what looks like a key, and for users and passwords of URLs. Cancelling ends git too.
    """
    hidden = tuple(keys)
    versions = await asyncio.to_thread(_versions)
    commit, dirty = await _commit(folder)
    return Origin(
        commit=commit,
        dirty=dirty,
        dataset=masked(dataset),
        dataset_hash=dataset_hash,
        model=model,
        context={name: _masked(value, hidden) for name, value in (context or {}).items()},
        versions=versions,
        workflow_digest=workflow_digest,
    )


def dataset_hash(examples: Iterable[Example]) -> str:
    """16 hex digits of BLAKE2b over ids, inputs and reference outputs, as JSON with sorted keys.

    The examples are sorted by id first: the order of a dataset does not matter for comparing, nor does metadata.
    """
    digest = blake2b(digest_size=_HASH_BYTES)
    for example in sorted(examples, key=lambda example: example.id):
        digest.update(
            content_hash({"id": example.id, "inputs": example.inputs, "reference_outputs": example.reference_outputs})
        )
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _masked(value: object, keys: tuple[str, ...]) -> object:
    if isinstance(value, str):
        return redacted(masked(value), keys)
    if isinstance(value, Mapping):
        return {name: _masked(item, keys) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, keys) for item in value]
    return value


async def _commit(folder: Path | None) -> tuple[str | None, bool]:
    """The commit, and whether the folder differs from it."""
    if folder is None:
        return None, False
    # A group waits for all of them when it is cancelled; `gather` for the first.
    async with asyncio.TaskGroup() as looks:
        head = looks.create_task(_git(folder, "rev-parse", "--verify", "--quiet", "HEAD"))
        changes = looks.create_task(_git(folder, "status", "--porcelain", "--untracked-files=normal", "--", "."))
        # plait installed below a user's repository is no part of that repository's commit.
        ignores = looks.create_task(_git(folder, "check-ignore", "--quiet", "."))
    commit, status, ignored = head.result(), changes.result(), ignores.result()
    if not commit or ignored is not None:
        return None, False
    return commit.strip(), status is None or bool(status.strip())


async def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it fails, is not there, or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            # A monitor of the user's would be started by looking, and outlive it.
            *("-c", "core.fsmonitor=false", "-C", str(folder), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_GIT_TIMEOUT_S):
            said, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(errors="replace") if process.returncode == 0 else None


def _environment() -> dict[str, str]:
    # Looking must not take the lock that a commit of the user's needs at the same time.
    kept = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return kept | {"GIT_OPTIONAL_LOCKS": "0"}
