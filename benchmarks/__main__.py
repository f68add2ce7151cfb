"""Runs the named benchmarks, or all: `python -m benchmarks [NAME ...]`, the names being those of ALL.

`limits`, `batch`, `eval` and `service` have several scenarios; `limits.burst20` names one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import (
    batch,
    cache_reuse,
    first_token,
    limits,
    plan,
    report,
    row,
    savers,
    search,
    service,
    simulator,
    startup,
    summarize,
)
from benchmarks import eval as experiments
from benchmarks.measure import describe_machine

ALL: dict[str, Callable[[], object]] = {
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
}
PARTS: dict[str, Callable[[], object]] = {
    f"{whole}.{name}": scenario
    for whole, scenarios in (
        ("limits", limits.SCENARIOS),
        ("batch", batch.SCENARIOS),
        ("eval", experiments.SCENARIOS),
        ("service", service.SCENARIOS),
    )
    for name, scenario in scenarios.items()
}


def main(names: list[str]) -> int:
    """Run them in order and return an exit code; figures are printed, never judged."""
    unknown = [name for name in names if name not in ALL | PARTS]
    if unknown:
        print(f"expected {', '.join(ALL | PARTS)}; found {', '.join(unknown)}", file=sys.stderr)
        return 2
    print(describe_machine())
    for name in names or ALL:
        print(f"\n## {name}")
        (ALL | PARTS)[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
