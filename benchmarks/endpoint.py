"""The tests' loopback provider in a process of its own, so that its CPU time is not the client's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from tests.provider import running_provider


@contextmanager
def endpoint() -> Generator[str]:
    """Start it, yield its base URL (ending in /v1), stop it."""
    command = [sys.executable, "-m", "benchmarks.endpoint"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


if __name__ == "__main__":
    with running_provider() as provider:
        print(provider.base_url, flush=True)
        sys.stdin.read()
