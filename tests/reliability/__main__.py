"""The full form of the reliability tests, whose figures stand in docs/reliability.md: `make reliability`."""

from __future__ import annotations

import logging
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.reliability.disks import can_mount, check_disk, run_on_a_small_disk
from tests.reliability.faults import Mixed, check_ends, check_leftovers, run_through_faults
from tests.reliability.kills import Figures, Plan, any_process, any_worker, kill_again_and_again

SEED = 1
PLANS = {
    "one process": Plan(rows=2000, kills=50, seed=SEED),
    "clients of its own": Plan(rows=200, kills=10, seed=SEED, workflow="own"),
    "two workers, one killed": Plan(rows=1000, kills=6, seed=SEED, workers=2, victim=any_worker),
    "two workers, any killed": Plan(rows=1000, kills=20, seed=SEED, workers=2, victim=any_process),
}


def main() -> None:
    """Run everything; writes Markdown, raises AssertionError where something was lost, paid twice or leaked."""
    logging.getLogger("aiohttp.server").disabled = True  # clients that are killed are no news
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as background:
        folder = Path(name)
        mixed = background.submit(run_through_faults, _new(folder, "mix"), rows=100, seed=SEED)
        _say(f"Seed {SEED}.\n")
        _say(
            "| batch | rows | kills | calls needed | requests received | in flight at the kills | of them cut off | s |"
        )
        _say("|---|---|---|---|---|---|---|---|")
        for number, (words, plan) in enumerate(PLANS.items()):
            _say(_line(words, kill_again_and_again(_new(folder, f"kills-{number}"), plan)))
        _say("\n| provider | rows | success | error | requests | faults | memory in MB: first half, second half | s |")
        _say("|---|---|---|---|---|---|---|---|")
        _say(_mixed("without faults", run_through_faults(_new(folder, "none"), rows=2000, seed=SEED, mix={})))
        _say(_mixed("mix of faults", mixed.result()))
        if can_mount():
            disk = run_on_a_small_disk(_new(folder, "disk"), rows=400)
            check_disk(disk)
            _say(
                f"\nFull disk: {disk.received_when_full:,} requests until it was full, {disk.received:,} in all for "
                f"{disk.needed:,} calls.\n> {disk.full.message.replace(name, '...').splitlines()[0]}"
            )
        else:
            _say("\nFull disk: not tried, this system lets nobody mount a file system")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _new(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


def _line(words: str, found: Figures) -> str:
    numbers = (found.needed, found.received, found.bound, found.cut_off)
    return (
        f"| {words} | {found.rows:,} | {found.kills} | {' | '.join(f'{n:,}' for n in numbers)} | {found.seconds:.0f} |"
    )


def _mixed(words: str, found: Mixed) -> str:
    check_ends(found)
    check_leftovers(found.ending)
    half = len(found.ending.rss_mb) // 2
    first, second = max(found.ending.rss_mb[:half]), max(found.ending.rss_mb[half:])
    return (
        f"| {words} | {found.rows:,} | {found.statuses.get('success', 0):,} | {found.statuses.get('error', 0):,} | "
        f"{found.received:,} | {sum(found.faults.values()):,} | {first:.0f}, {second:.0f} | {found.seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
