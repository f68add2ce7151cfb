"""Runs a batch in a file system that is too small for it, then in the same one made larger."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from plait.simulator import Profile, running
from tests.reliability.providers import CALLS, Answers, environment, write_rows
from tests.reliability.sittings import APP, Ending, Sitting

_SMALL, _LARGE = "512k", "256m"


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What came of it."""

    rows: int
    full: Ending
    resumed: Ending
    needed: int
    received_when_full: int
    received: int


def can_mount() -> bool:
    """Whether this system lets everybody mount a file system in a namespace of their own."""
    try:
        return subprocess.run(_namespace("mount -t tmpfs none /mnt"), capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run_on_a_small_disk(folder: Path, *, rows: int) -> Disk:
    """The batch; both sittings share a mount that only they can see."""
    home = folder / "home"
    home.mkdir()
    data = write_rows(folder / "rows.jsonl", rows)
    with running(Profile(latency_s=0.02), answer=Answers(), record=False) as provider:
        # No file is made but in the small file system: Python's own caches are not.
        env = {**os.environ, **environment(provider, home), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            _namespace(
                f"mount -t tmpfs -o size={_SMALL} none {shlex.quote(str(home))}; {_sitting(Sitting(rows=str(data)))}; "
                f"read line; mount -o remount,size={_LARGE} {shlex.quote(str(home))}; "
                f"{_sitting(Sitting(batch=''))}"
            ),
            env=env,
            cwd=APP.parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as shell:
            assert shell.stdin is not None
            assert shell.stdout is not None
            full = Ending(**json.loads(shell.stdout.readline()))
            received_when_full = provider.counters.received
            shell.stdin.write("\n")
            shell.stdin.flush()
            resumed = Ending(**json.loads(shell.stdout.readline()))
        received = provider.counters.received
    return Disk(
        rows=rows,
        full=full,
        resumed=resumed,
        needed=rows * CALLS["fan"],
        received_when_full=received_when_full,
        received=received,
    )


def check_disk(disk: Disk) -> None:
    """Fail unless the full disk was named and the batch went on, with no answer paid twice that was kept."""
    assert disk.full.end == "BatchPaused", disk.full
    assert "make room, then go on with `plait resume`" in disk.full.message
    assert disk.resumed.end == "finished", disk.resumed
    assert 0 < disk.received_when_full < disk.needed
    assert disk.received < disk.needed + disk.received_when_full


def _sitting(sitting: Sitting) -> str:
    return f"{sys.executable} -m tests.reliability.sittings {shlex.quote(json.dumps(asdict(sitting)))}"


def _namespace(script: str) -> list[str]:
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
