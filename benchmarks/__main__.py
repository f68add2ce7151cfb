"""Runs the named benchmarks, or all: `python -m benchmarks [--keep] [NAME ...]`, the names being those of ALL.

Those with several scenarios have names such as `limits.burst20` for each. `--keep` writes each result into
benchmarks/results; `python -m benchmarks page [--measure]` writes docs/performance.md from these.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import (
    batch,
    cache_reuse,
    capacity_table,
    costs,
    first_token,
    limits,
    page,
    plan,
    report,
    row,
    savers,
    scale,
    search,
    service,
    simulator,
    startup,
    store,
    summarize,
    throughput,
    tokens,
)
from benchmarks import eval as experiments
from benchmarks.measure import describe_machine, noting
from benchmarks.records import keep, write_notes

Scenarios = Mapping[str, Callable[[], None]]

ALL: dict[str, Callable[[], object]] = {
    "costs": costs.main,
    "throughput": throughput.main,
    "tokens": tokens.main,
    "row": row.main,
    "first_token": first_token.main,
    "startup": startup.main,
    "summarize": summarize.main,
    "search": search.main,
    "simulator": simulator.main,
    "limits": limits.main,
    "batch": batch.main,
    "cache_reuse": cache_reuse.main,
    "plan": plan.main,
    "eval": experiments.main,
    "report": report.main,
    "service": service.main,
    "savers": savers.main,
    "store": store.main,
    "scale": scale.main,
    "capacity": capacity_table.main,
}
WHOLES: dict[str, Scenarios] = {
    "limits": limits.SCENARIOS,
    "batch": batch.SCENARIOS,
    "eval": experiments.SCENARIOS,
    "service": service.SCENARIOS,
}
PARTS: dict[str, Callable[[], None]] = {
    f"{whole}.{name}": scenario for whole, scenarios in WHOLES.items() for name, scenario in scenarios.items()
}


def main(arguments: list[str]) -> int:
    """Run them in order and return an exit code; figures are printed, never judged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="`page`, or of the benchmarks")
    parser.add_argument("--keep", action="store_true", help="write each result into benchmarks/results")
    parser.add_argument("--measure", action="store_true", help="of `page`: measure all its tables first (an hour)")
    parser.add_argument("--notes", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.names == ["page"]:
        return page.main(measure=given.measure)
    unknown = [name for name in given.names if name not in ALL | PARTS]
    if unknown:
        print(f"expected page or {', '.join(ALL | PARTS)}; found {', '.join(unknown)}", file=sys.stderr)
        return 2
    names = given.names or list(ALL)
    if given.notes:
        with noting() as notes:
            _run(names)
        write_notes(notes, given.notes)
        return 0
    print(describe_machine())
    for name in _parts(names) if given.keep else names:
        print(f"\n## {name}", flush=True)
        if given.keep:
            keep(name)
        else:
            _run([name])
    return 0


def _run(names: list[str]) -> None:
    for name in names:
        (ALL | PARTS)[name]()


def _parts(names: list[str]) -> list[str]:
    """A whole is kept part by part."""
    parted = {whole: [f"{whole}.{part}" for part in parts] for whole, parts in WHOLES.items()}
    return [part for name in names for part in parted.get(name, [name])]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
