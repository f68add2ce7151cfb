"""Draws what `make demo-eval` ends with, its comparison on the terminal: python scripts/eval_picture.py OUT.svg."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import record

PLAIT = str(Path(sys.executable).parent / "plait")
BEFORE = ("eval", "story-quality", "--name", "before", "--model", "local:smollm2-135m", "--limit", "12")
AFTER = (
    *("eval", "story-quality", "--name", "after", "--reuse", "before", "--model", "local:smollm2-135m"),
    *("--limit", "12", "--context", "prompt=You are a poet. You write haiku."),
)
COMPARE = ("compare", "before", "after", "--examples", "2")
MOST_ROWS = 100


def main(out: Path) -> None:
    """Run both experiments in a home of their own, compare them and write the picture."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["PLAIT_HOME"] = home
        for words in (BEFORE, AFTER):
            subprocess.run([PLAIT, *words], check=True, stdout=subprocess.DEVNULL)
        record.ROWS = MOST_ROWS
        frames, code = record.record([PLAIT, *COMPARE])
    if code:
        sys.exit(code)
    shown = frames[-1]
    while not "".join(text for text, _ in shown[-1]).strip():
        shown.pop()
    lines = [line for words in (BEFORE, AFTER, COMPARE) for line in record.prompt([PLAIT, *words])] + shown
    record.ROWS = len(lines)
    out.write_text(record.drawn([lines]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
