"""Results that are kept: what a benchmark printed and noted, when and where, a JSON file each in benchmarks/results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Figure, Note, describe_hardware, versions_here

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


class BenchmarkFailed(Exception):
    """A benchmark ended with an error; its own words stand above."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one benchmark."""

    name: str
    measured: str
    """When it ended: 2026-11-21 21:55, UTC."""
    took_s: int
    machine: str
    versions: Mapping[str, str]
    load: tuple[float, float]
    """Load averages of a minute at its begin and end."""
    lines: tuple[str, ...]
    """What it printed."""
    notes: tuple[Note, ...] = field(default=())

    @property
    def command(self) -> str:
        return f"python -m benchmarks {self.name}"

    def figure(self, subject: str, measure: str = "") -> Figure:
        """What was noted of a subject; of several measures the first whose name begins so. Raises KeyError."""
        return Figure.of(self.values(subject, measure))

    def values(self, subject: str, measure: str = "") -> tuple[float, ...]:
        """The same, a value a round. Raises KeyError."""
        for each in self.notes:
            if each.subject == subject and each.measure.startswith(measure):
                return each.values
        raise KeyError(f"expected a note of {subject!r} {measure!r} in {self.name}; found {self.subjects(measure)}")

    def subjects(self, measure: str = "") -> list[str]:
        """Of whom something was noted, in that order."""
        return list(dict.fromkeys(each.subject for each in self.notes if each.measure.startswith(measure)))


def keep(name: str, folder: Path = RESULTS) -> Result:
    """Run a benchmark in a process of its own, print what it prints, and write its result. Raises BenchmarkFailed.

    A result there from before is replaced only when the benchmark has ended well.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        file = Path(elsewhere) / "notes.json"
        result = observe(name, [sys.executable, "-u", "-m", "benchmarks", "--notes", str(file), name], file)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    return result


def observe(name: str, command: Sequence[str], notes: Path) -> Result:
    """Run a command, print what it prints, read the notes that it leaves. Raises BenchmarkFailed."""
    began, load, lines = time.monotonic(), os.getloadavg()[0], []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        raise BenchmarkFailed(f"{name} ended with exit code {process.returncode}; its result is not replaced")
    return Result(
        name,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        round(time.monotonic() - began),
        describe_hardware(),
        versions_here(),
        (round(load, 1), round(os.getloadavg()[0], 1)),
        tuple(lines),
        tuple(_note(each) for each in json.loads(notes.read_text(encoding="utf-8"))),
    )


def read_results(folder: Path = RESULTS) -> dict[str, Result]:
    """All that are kept, by name."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        said = json.loads(file.read_text(encoding="utf-8"))
        said["load"], said["lines"] = tuple(said["load"]), tuple(said["lines"])
        said["notes"] = tuple(_note(each) for each in said["notes"])
        found[file.stem] = Result(**said)
    return found


def write_notes(notes: list[Note], file: Path) -> None:
    """For the process that keeps them; four digits, which is more than any of them is worth."""
    rounded = [{**asdict(each), "values": [float(f"{value:.4g}") for value in each.values]} for each in notes]
    file.write_text(json.dumps(rounded), encoding="utf-8")


def _note(said: dict[str, object]) -> Note:
    values = said["values"]
    assert isinstance(values, list)
    return Note(str(said["subject"]), str(said["measure"]), tuple(values))
