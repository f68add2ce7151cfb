"""Virtual environments for the peers, made at their first use and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

_PATIENCE_S = 600.0


class NotInstalled(Exception):
    """The peer's packages could not be installed; says what pip said last."""


def python_with(requirements: list[str]) -> Path:
    """A Python with these packages, as pip understands them. Raises NotInstalled."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = blake2b(" ".join([sys.version, *requirements]).encode(), digest_size=6).hexdigest()
    folder = cache / "plait" / "peers" / digest
    python = folder / "bin" / "python"
    finished = folder / "finished"
    if not finished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {' '.join(requirements)} into {folder}", flush=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
        finished.touch()
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if done.returncode:
        raise NotInstalled((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
