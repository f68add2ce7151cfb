"""Rows against a provider with limits that nobody configured: how near to the ideal, at the price of which refusals.

Every scenario states its ideal: what remains after the burst at the limit's rate, and one latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks import limits_fairness, limits_gate, limits_shared
from benchmarks.limits_provider import Provider
from benchmarks.limits_subjects import (
    HEAD,
    PEERS,
    PLAIT,
    Race,
    Subject,
    print_race,
    print_rounds,
    race,
    rate_limiter,
    try_race,
)
from benchmarks.peers.contest import Course

ROUNDS = 3
LATENCY_S = 0.5
RPM, BURST = 600, 20
BURST20: dict[str, Any] = {"rpm": RPM, "burst": BURST, "headers": "none", "latency_s": LATENCY_S}
COURSE = Course("", rows=300, in_flight=50)

WORDS, ROW_TOKENS = 71, 150
"""71 words and a question, which the answer repeats: 150 tokens a row, both ways."""
TPM, TOKEN_BURST = 90_000, 3_000
TOKENS = {"tpm": TPM, "token_burst": TOKEN_BURST, "headers": "none", "latency_s": LATENCY_S}

SLOTS = 20
QUEUE = {"max_concurrency": SLOTS, "over_limit": "queue", "headers": "none", "latency_s": LATENCY_S}
QUEUE_COURSE = Course("", rows=1200, in_flight=200)

OTHERS: dict[str, tuple[dict[str, Any], Course]] = {
    "no Retry-After, no reason": ({"retry_after": "none", "vague": True}, COURSE),
    "answers in 0.05 s": ({"latency_s": 0.05}, COURSE),
    "answers in 3 s": ({"latency_s": 3.0}, COURSE),
    "burst of 1": ({"burst": 1}, COURSE),
    "burst of 300": ({"burst": 300}, replace(COURSE, rows=600)),
    "60 rpm, burst 5": ({"rpm": 60, "burst": 5}, replace(COURSE, rows=45)),
    "6,000 rpm, burst 200": ({"rpm": 6000, "burst": 200}, replace(COURSE, rows=3000, in_flight=200)),
}
"""What differs from BURST20."""
SEATS = {"max_concurrency": 8, "headers": "none", "latency_s": LATENCY_S}

CHANGES_AT_S = (15.0, 37.0)
BUCKET_S = 2.0


def ideal_s(rows: int) -> float:
    """Under BURST20."""
    return (rows - BURST) / (RPM / 60) + LATENCY_S


def tokens_ideal_s(rows: int) -> float:
    """Under TOKENS."""
    return (rows * ROW_TOKENS - TOKEN_BURST) / (TPM / 60) + LATENCY_S


def queue_ideal_s(rows: int) -> float:
    """Under QUEUE: every slot busy from the first moment to the last."""
    return rows / SLOTS * LATENCY_S


def burst20() -> None:
    """600 rpm, burst 20, Retry-After only."""
    _rounds(BURST20, COURSE, ideal_s(COURSE.rows), "target: all rows, <= 1.05x, <= 20 refusals")


def tokens() -> None:
    """90,000 tokens a minute bind; no header tells."""
    course = replace(COURSE, words=WORDS)
    found = _rounds(TOKENS, course, tokens_ideal_s(course.rows), "target: all rows, <= 1.05x, <= 20 refusals")
    counted = found[0].provider.counters
    print(f"tokens a row: {(counted['prompt_tokens'] + counted['completion_tokens']) / counted['accepted']:.1f}")


def dialects() -> None:
    """The same limits, told in each provider's headers; `told`: tokens bind as well as requests."""
    print(f"ideal {ideal_s(COURSE.rows):.1f} s; target: all rows, <= 1.05x, <= 20 refusals\n{HEAD}")
    for dialect in ("openai", "azure", "anthropic", "none"):
        print_race(dialect, race([PLAIT], {**BURST20, "headers": dialect}, COURSE), COURSE, ideal_s(COURSE.rows))
    course = replace(COURSE, words=WORDS)
    for dialect in ("openai", "azure", "anthropic"):
        profile = {**TOKENS, "headers": dialect}
        print_race(f"{dialect}, tokens bind", race([PLAIT], profile, course), course, tokens_ideal_s(course.rows))


def others() -> None:
    """Other limits, bursts and latencies, refusals that tell nothing, a limit on concurrency: all without headers."""
    print(f"targets as for burst20\n{HEAD}")
    for name, (changes, course) in OTHERS.items():
        profile = {**BURST20, **changes}
        ideal = (course.rows - profile["burst"]) / (profile["rpm"] / 60) + profile["latency_s"]
        print_race(name, race([PLAIT], profile, course), course, ideal)
    for name, vague in (("8 in flight, or refused", False), ("the same, no reason given", True)):
        ideal = COURSE.rows / 8 * LATENCY_S
        print_race(name, race([PLAIT], {**SEATS, "vague": vague}, COURSE), COURSE, ideal)


def halved() -> None:
    """The limit is halved and restored while rows run."""
    course = replace(COURSE, rows=660)
    changes: list[float] = []

    def change(provider: Provider) -> None:
        began = time.monotonic()
        for at, rpm in zip(CHANGES_AT_S, (RPM / 2, RPM), strict=True):
            time.sleep(max(0.0, began + at - time.monotonic()))
            provider.change(rpm=rpm)
            changes.append(time.monotonic())

    found = race([PLAIT], BURST20, course, meanwhile=change)
    provider = found.provider
    begin, end = provider.busy[0].at, provider.busy[-1].at - LATENCY_S
    buckets = int((end - begin) / BUCKET_S)
    rates = [provider.rate(begin + k * BUCKET_S, begin + (k + 1) * BUCKET_S) for k in range(buckets)]
    print(f"600 rpm, 300 from {CHANGES_AT_S[0]:g} s, 600 from {CHANGES_AT_S[1]:g} s; requests/s by {BUCKET_S:g} s:")
    print(" ".join(f"{rate:.1f}" for rate in rates))
    down, up = changes
    low = provider.rate(down + 10, up) / (RPM / 120)
    high = provider.rate(up + 10, end) / (RPM / 60)
    print(f"share of the limit from 10 s after the change: halved {low:.3f}, restored {high:.3f}; target >= 0.95")
    refused = [provider.refusals(a, b) for a, b in ((begin, down), (down, up), (up, end))]
    print(f"rows {found.done}/{course.rows}, refusals before, halved, restored: {refused}, load {found.load:.1f}")


def queue() -> None:
    """A provider that queues instead of refusing: 20 slots of half a second, 200 rows in flight."""
    best_s = queue_ideal_s(QUEUE_COURSE.rows)
    print(f"ideal {best_s:.1f} s, floor {LATENCY_S} s; target: latency <= 2x the floor, throughput >= 95 %\n{HEAD}")
    found = race([PLAIT], QUEUE, QUEUE_COURSE)
    print_race(PLAIT.name, found, QUEUE_COURSE, best_s)
    for name, part in (("whole run", found.tallies[0].latencies_s), ("second half", _second_half(found))):
        mean = sum(part) / len(part)
        middle, most = sorted(part)[len(part) // 2], sorted(part)[int(len(part) * 0.95)]
        print(
            f"{name}: latency mean {mean / LATENCY_S:.2f}, p50 {middle / LATENCY_S:.2f}, p95 {most / LATENCY_S:.2f} "
            "x the floor, as the client saw it"
        )
    print(f"throughput: {best_s / found.wall_s:.3f} of the best")


def processes() -> None:
    """One, two and four processes on one key and one PLAIT_HOME share the rows."""
    ideal = ideal_s(COURSE.rows)
    print(f"ideal {ideal:.1f} s; target: refusals no more than of one process, >= 0.95 of the ideal throughput\n{HEAD}")
    found: dict[int, list[Race]] = {1: [], 2: [], 4: []}
    for _ in range(ROUNDS):
        for count, races in found.items():
            course = replace(COURSE, rows=COURSE.rows // count)
            races.append(race([PLAIT] * count, BURST20, course))
            print_race(f"{count} processes", races[-1], COURSE, ideal)
    for count, races in found.items():
        print_rounds(f"{count} processes", races, ideal)


def peers() -> None:
    """600 rpm, burst 20, Retry-After only: plait and its peers, each alone."""
    tuned = [rate_limiter(setting) for setting in ("10/1/0.1", "10/20/0.1", "10/20/0.01", "10.6/1/0.01")]
    _compare(BURST20, COURSE, ideal_s(COURSE.rows), [PLAIT, *PEERS, *tuned])


def peers_tokens() -> None:
    """90,000 tokens a minute: plait and its peers; who tunes by hand divides by the tokens of a row."""
    course = replace(COURSE, words=WORDS)
    tuned = [rate_limiter(setting) for setting in ("10/1/0.01", "9.8/1/0.01")]
    _compare(TOKENS, course, tokens_ideal_s(course.rows), [PLAIT, *PEERS, *tuned])


def peers_queue() -> None:
    """A provider that queues: plait and its peers with 200 rows in flight."""
    _compare(QUEUE, QUEUE_COURSE, queue_ideal_s(QUEUE_COURSE.rows), [PLAIT, *PEERS, rate_limiter("40/1/0.01")])


def _compare(profile: Mapping[str, object], course: Course, ideal: float, subjects: list[Subject]) -> None:
    print(f"{course.rows} rows, {course.in_flight} in flight, ideal {ideal:.1f} s\n{HEAD}")
    versions: set[str] = set()
    for subject in subjects:
        found = try_race(subject, profile, course, ideal)
        if found is not None:
            versions |= set(found.tallies[0].versions.split(", "))
    print(", ".join(sorted(versions)))


def _rounds(profile: Mapping[str, object], course: Course, ideal: float, target: str) -> list[Race]:
    print(f"{course.rows} rows, {course.in_flight} in flight, ideal {ideal:.1f} s; {target}\n{HEAD}")
    found = []
    for _ in range(ROUNDS):
        found.append(race([PLAIT], profile, course))
        print_race(PLAIT.name, found[-1], course, ideal)
    print_rounds(PLAIT.name, found, ideal)
    return found


def _second_half(found: Race) -> list[float]:
    latencies = found.tallies[0].latencies_s
    return latencies[len(latencies) // 2 :]


SCENARIOS: dict[str, Callable[[], None]] = {
    "burst20": burst20,
    "tokens": tokens,
    "dialects": dialects,
    "others": others,
    "halved": halved,
    "queue": queue,
    "processes": processes,
    "shared": limits_shared.shared,
    "fairness": limits_fairness.main,
    "gate": limits_gate.gate,
    "waiters": limits_gate.waiters,
    "peers": peers,
    "peers_tokens": peers_tokens,
    "peers_queue": peers_queue,
}


def main() -> None:
    """All scenarios; `python -m benchmarks limits.NAME` runs one."""
    for name, scenario in SCENARIOS.items():
        print(f"\n### limits.{name}: {scenario.__doc__}")
        scenario()
