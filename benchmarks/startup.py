"""How long a command takes to begin: `plait --help`, and `plait run` until its first request arrives."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import interleave, print_ratios
from benchmarks.subjects import KEY
from plait.simulator import Simulator, running

ROUNDS = 7
PEER = "python -c pass"


def main() -> None:
    """Print wall seconds and ratios to an interpreter that does nothing."""
    script = Path(sys.executable).with_name("plait")
    plait = [str(script)] if script.exists() else [sys.executable, "-c", "from plait.cli import main; main()"]
    with running() as provider, tempfile.TemporaryDirectory() as home:
        env = os.environ | {
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": KEY,
            "PLAIT_HOME": home,
        }
        subjects = {
            PEER: lambda: _wall([sys.executable, "-c", "pass"], env),
            "plait --help": lambda: _wall([*plait, "--help"], env),
            "plait run, first request": lambda: _until_first_request(plait, env, provider),
        }
        interleave(subjects, rounds=1)  # byte code is compiled, files are cached
        found = interleave(subjects, rounds=ROUNDS)
    print("wall time; targets: plait --help <= 0.25 s, plait run to its first request <= 2.5 s")
    print_ratios(found, PEER, unit="s", scale=1)


def _wall(command: list[str], env: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _until_first_request(plait: list[str], env: dict[str, str], provider: Simulator) -> float:
    command = [*plait, "run", "story", "topic=a magical forest", "--model", "openai:m"]
    before = len(provider.requests)
    started = time.perf_counter()
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        provider.wait_received(before + 1)
        found = time.perf_counter() - started
        said = process.communicate()[1]
    if process.returncode != 0:
        raise RuntimeError(f"`plait run` ended with exit code {process.returncode}: {said}")
    return found
