"""Runs a batch against a provider at its worst, and looks at what is left when it is over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from plait.simulator import Behaviour, Body, Profile, running
from plait.simulator.draws import digest
from plait.simulator.profiles import FaultKind
from plait.store.folders import FolderPlace
from plait.store.rows import RowRecord
from tests.reliability.providers import Answers, environment, write_rows
from tests.reliability.sittings import Ending, Sitting, sit

MIX: Mapping[FaultKind, float] = {
    "429": 0.1,
    "429-silent": 0.1,
    "500": 0.04,
    "502": 0.03,
    "503": 0.03,
    "reset": 0.05,
    "cut": 0.02,
    "stall": 0.01,
}
_BAD_JSON = 0.02
MAX_CONCURRENCY = 32
_GROWTH_MB = 16.0
_BURST_MB = 64.0
_OURS = ("MainThread", "asyncio_", "plait alarms", "plait budget")


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """What became of a batch."""

    rows: int
    ending: Ending
    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    received: int
    faults: Mapping[str, int]
    seconds: float
    records: list[RowRecord] = field(repr=False)
    answers: Answers = field(repr=False)


def run_through_faults(folder: Path, *, rows: int, seed: int, mix: Mapping[FaultKind, float] = MIX) -> Mixed:
    """The batch, run to its end."""

    def bad_json(_: Body, index: int) -> Behaviour | None:
        if not mix or digest(f"{seed} {index}".encode()) / 2**64 >= _BAD_JSON:
            return None
        return Behaviour(body=b'{"choices": [{', content_type="application/json", kind="bad-json")

    answers, began = Answers(), time.monotonic()
    profile = Profile(latency_s=0.02, latency_law="lognormal", faults=mix, seed=seed)
    data, home = write_rows(folder / "rows.jsonl", rows), folder / "home"
    with running(profile, answer=answers, record=False) as provider:
        provider.behave = bad_json
        env = environment(provider, home, max_concurrency=MAX_CONCURRENCY, read_timeout_s=1.0)
        ending = sit(Sitting(rows=str(data)), env)
        counters = provider.counters
    [batch] = (home / "batches").iterdir()
    with FolderPlace(batch).read() as reader:
        records = list(reader.rows())
    return Mixed(
        rows=rows,
        ending=ending,
        statuses=Counter(row.status for row in records),
        errors=Counter(row.error.type for row in records if row.error),
        received=counters.received,
        faults=dict(counters.faults),
        seconds=time.monotonic() - began,
        records=records,
        answers=answers,
    )


def check_ends(mixed: Mixed) -> None:
    """Fail unless every row ended, right or with an error that has a name."""
    assert mixed.ending.end == "finished", mixed.ending
    assert [row.position for row in mixed.records] == list(range(mixed.rows))
    for row in mixed.records:
        if row.status == "success":
            mixed.answers.check_outputs("fan", row)
        else:
            assert row.error is not None
            assert row.error.type in {"EndpointUnreachable", "CallRefused", "GaveUp"}, row.error


def check_leftovers(ending: Ending) -> None:
    """Fail where something was not given back."""
    assert ending.tasks == []
    assert (ending.permits_taken, ending.permits_wanted) == (0, 0)
    assert [name for name in ending.threads if not name.startswith(_OURS)] == []
    # Connections that are kept for the next call, and the loop's own two.
    assert ending.sockets <= MAX_CONCURRENCY + 4
    assert not _leaks(ending.rss_mb), ending.rss_mb


def _leaks(rss_mb: Sequence[float]) -> bool:
    """Whether memory grows all along the second half: imports and pools grow in the first moments only.

    A burst, such as what waits while a disk stands still, leaves its memory with the process and is no leak.
    """
    rest = rss_mb[(half := len(rss_mb) // 2) :]
    quarters = [rest[len(rest) * number // 4 : len(rest) * (number + 1) // 4] for number in range(4)]
    most = [max(part, default=0.0) for part in (rss_mb[:half], *quarters)]
    grown = max(rest, default=0.0) - most[0]
    steadily = all(after - before > _GROWTH_MB / 4 for before, after in pairwise(most))
    return grown > _BURST_MB or (grown > _GROWTH_MB and steadily)
