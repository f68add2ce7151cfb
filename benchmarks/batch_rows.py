"""The rows of the batch benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

APP = Path(__file__).parent / "batch_app"
"""A folder as a user has it: a langgraph.json and its workflows."""


def question(row: int) -> str:
    """No two rows ask the same."""
    return f"Tell story {row} about a magical forest."


def write_rows(path: Path, rows: int) -> Path:
    """A JSONL file with an id and a question a line; `path`."""
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            file.write(json.dumps({"id": f"r{row}", "question": question(row)}) + "\n")
    return path
