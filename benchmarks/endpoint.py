"""The simulator in a process of its own, so that its CPU time is not the client's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from plait.simulator import Profile, running


@contextmanager
def endpoint(*, delay_s: float = 0.0, answer: str = "") -> Generator[str]:
    """Start it, yield its base URL (ending in /v1), stop it.

    Every answer begins `delay_s` after its request; it is `answer`, or else repeats the question.
    """
    command = [sys.executable, "-m", "benchmarks.endpoint", str(delay_s), answer]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


if __name__ == "__main__":
    said = sys.argv[2]
    answer_given = (lambda body: said) if said else None
    with running(Profile(latency_s=float(sys.argv[1])), answer=answer_given, record=False) as simulator:
        print(simulator.base_url, flush=True)
        sys.stdin.read()
