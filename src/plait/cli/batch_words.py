"""What is said of a batch: its progress in one line, its end, and how to go on."""

from __future__ import annotations

from collections.abc import Mapping

from plait.batches import Progress
from plait.cli.durations import money, rate, rows, spell
from plait.cli.values import clean
from plait.masking import masked

_LONGEST = 200


def progress_line(batch_id: str, now: Progress) -> str:
    """How far it is, in one line for logs."""
    counts = f"{now.done:,} done, {now.failed:,} failed, {now.running:,} in flight"
    total = f" of {now.total:,}" if now.total is not None else ""
    parts = [f"{counts}{total}", f"{rate(now.rows_per_s)} rows/s, {rate(now.tokens_per_s)} tokens/s"]
    if now.cost_usd:
        parts.append(cost(now))
    if now.eta_s is not None:
        parts.append(f"{spell(now.eta_s)} left")
    if now.limit:
        parts.append(f"waits for {now.limit}")
    return f"{batch_id}: {'; '.join(parts)}"


def cost(now: Progress) -> str:
    """What it cost so far, and what it will."""
    assert now.cost_usd is not None
    said = f"{money(now.cost_usd)} so far"
    if now.expected_cost_usd is not None and now.running:
        said += f", about {money(now.expected_cost_usd)} in all"
    return said


def summary(batch_id: str, now: Progress, *, pending: bool = True) -> str:
    """What this session came to, in one line; `pending` says whether rows that wait are told."""
    total = now.total if now.total is not None else now.done + now.failed
    ended = now.done + now.failed
    said = f"all {rows(total)} done" if now.done == total else f"{now.done:,} of {rows(total)} done"
    if now.failed:
        said += f", {now.failed:,} failed"
    if pending and ended < total:
        said += f", {total - ended:,} pending"
    parts = [f"{said} in {spell(now.elapsed_s)}"]
    if now.tokens:
        parts.append(f"{now.tokens:,} tokens")
    if now.cost_usd:
        parts.append(money(now.cost_usd))
    if now.replayed_calls:
        parts.append(f"{now.replayed_calls:,} call{'' if now.replayed_calls == 1 else 's'} replayed for free")
    if now.bad_rows:
        parts.append(f"{rows(now.bad_rows)} could not be read and {'was' if now.bad_rows == 1 else 'were'} skipped")
    return f"{batch_id}: {'; '.join(parts)}"


def error_lines(errors: Mapping[str, int], messages: Mapping[str, str], most: int = 3) -> list[str]:
    """Failures by kind, one line each: how many, and the latest message."""
    said = [f"{number:,} x {kind}: {one_line(messages.get(kind, ''))}" for kind, number in errors.items()]
    if len(said) > most:
        return [*said[:most], f"{len(said) - most} more kinds"]
    return said


def one_line(text: str, most: int = _LONGEST) -> str:
    """A message as one line of bounded length, without secrets or control characters."""
    whole = " ".join(clean(masked(text)).split())
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"
