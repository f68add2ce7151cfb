"""How long a command takes to begin: `plait --help`, and `plait run` until its first request arrives.

Wall time and, since that says little on a machine with other work, the CPU time that the process had used by then.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import interleave, print_ratios
from benchmarks.subjects import KEY
from plait.simulator import Simulator, running

ROUNDS = 20
PEER = "python -c pass"


def main() -> None:
    """Print seconds, and ratios to an interpreter that does nothing."""
    script = Path(sys.executable).with_name("plait")
    plait = [str(script)] if script.exists() else [sys.executable, "-c", "from plait.cli import main; main()"]
    spent: dict[str, list[float]] = {}
    with running() as provider, tempfile.TemporaryDirectory() as home:
        env = os.environ | {
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": KEY,
            "PLAIT_HOME": home,
        }

        def measured(name: str, begin: Callable[[], tuple[float, float]]) -> Callable[[], float]:
            def wall() -> float:
                wall_s, used_s = begin()
                spent.setdefault(name, []).append(used_s)
                return wall_s

            return wall

        subjects = {
            PEER: lambda: _whole([sys.executable, "-c", "pass"], env),
            "plait --help": lambda: _whole([*plait, "--help"], env),
            "plait run, first request": lambda: _until_first_request(plait, env, provider),
        }
        timed = {name: measured(name, begin) for name, begin in subjects.items()}
        interleave(timed, rounds=1)  # byte code is compiled, files are cached
        spent.clear()
        found = interleave(timed, rounds=ROUNDS)
    print(f"wall time, {ROUNDS} rounds; targets: plait --help < 0.2 s, plait run to its first request < 1.5 s")
    print_ratios(found, PEER, unit="s", scale=1)
    print("CPU time by then")
    print_ratios(spent, PEER, unit="s of CPU", scale=1)


def _whole(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    before, started = _used_by_children(), time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, _used_by_children() - before


def _used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _used_by(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until_first_request(plait: list[str], env: dict[str, str], provider: Simulator) -> tuple[float, float]:
    command = [*plait, "run", "story", "topic=a magical forest", "--model", "openai:m"]
    before = len(provider.requests)
    started = time.perf_counter()
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        provider.wait_received(before + 1)
        found = time.perf_counter() - started, _used_by(process.pid)
        said = process.communicate()[1]
    if process.returncode != 0:
        raise RuntimeError(f"`plait run` ended with exit code {process.returncode}: {said}")
    return found
