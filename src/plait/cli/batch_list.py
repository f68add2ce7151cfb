"""`plait batches`, `plait export` and `plait prune`: the batches of this home, their results, and making room."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from plait.cli.apps import open_app
from plait.cli.batch_costs import cost_usd, prices_of, spent_by_model
from plait.cli.batch_words import one_line
from plait.cli.durations import money, roughly, rows, size
from plait.cli.options import span
from plait.cli.values import clean
from plait.errors import InputError, StoreError
from plait.exports import check_target, export
from plait.flow.usage import Tokens
from plait.json_values import dumps
from plait.prices import Prices
from plait.store.places import BatchInfo, shelf_of
from plait.store.rows import STATUSES

_LARGE = 500_000_000
"""Bytes beyond which a batch's journal is not summed up for a list: `plait show` does it."""
_STYLES = {"running": "cyan", "finished": "green", "paused": "yellow", "unreadable": "red"}


def show_batches(*, as_json: bool) -> int:
    """Print the batches, newest first; returns the exit code."""
    _, settings = open_app(None)
    prices = prices_of(settings)
    shelf = shelf_of(settings)
    found = [(batch, _cost(batch, prices)) for batch in shelf.batches()]
    if as_json:
        sys.stdout.write(f"{dumps([_as_json(*each) for each in found], indent=2)}\n")
        return 0
    if not found:
        sys.stdout.write(f"there are no batches in {shelf} yet: plait batch WORKFLOW DATA begins one\n")
        return 0
    console = Console(file=sys.stdout, highlight=False, markup=False)
    table = _table(found)
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width:
        console.print(table)
    else:
        for batch, cost in found:
            console.print(_block(batch, cost), soft_wrap=True)
    for batch, _ in found:
        if said := _note(batch):
            console.print(Text(said), soft_wrap=True)
    return 0


def ended(batch: BatchInfo) -> tuple[int, int]:
    """Rows that succeeded, and that failed."""
    done = batch.counts.get("success", 0)
    return done, sum(batch.counts.values()) - done


def age(at: float) -> str:
    """How long ago, in the largest unit."""
    seconds = max(0.0, time.time() - at)
    return "now" if seconds < 3 else f"{roughly(seconds)} ago"


def _cost(batch: BatchInfo, prices: Prices) -> float | None:
    if batch.problem is None and batch.status != "running" and isinstance(spent := batch.meta.get("spent"), Mapping):
        model = str(batch.meta.get("model") or "")
        return prices.cost_usd({name: Tokens(*sums) for name, sums in spent.items()}, model.partition(":")[0] or None)
    if batch.problem is not None or (batch.size_bytes or 0) > _LARGE:
        return None
    try:
        with batch.place.read() as reader:
            return cost_usd(spent_by_model(reader, prices))
    except StoreError:
        return None


def _cells(batch: BatchInfo, cost: float | None) -> list[str]:
    done, failed = ended(batch)
    total = "?" if batch.total is None else f"{batch.total:,}"
    said = money(cost) if cost else ""
    kept = "" if batch.size_bytes is None else size(batch.size_bytes)
    return [f"{done:,}", f"{failed:,}", total, said, roughly(time.time() - batch.created_at), kept]


def _table(found: list[tuple[BatchInfo, float | None]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for label in ("batch", "workflow", "status"):
        table.add_column(label, no_wrap=True)
    for label in ("done", "failed", "rows", "cost", "age", "size"):
        table.add_column(label, justify="right", no_wrap=True)
    for batch, cost in found:
        status = Text(batch.status, style=_STYLES.get(batch.status, ""))
        table.add_row(batch.id, clean(batch.workflow), status, *_cells(batch, cost))
    return table


def _block(batch: BatchInfo, cost: float | None) -> Text:
    done, failed, total, said, begun, bytes_ = _cells(batch, cost)
    line = Text(batch.id, style="bold").append(f"  {batch.status}", style=_STYLES.get(batch.status, ""))
    line.append(f"\n  {done} done, {failed} failed of {total}\n", style="not bold default")
    return line.append("  " + ", ".join(part for part in (said, f"{begun} old", bytes_) if part), style="not bold dim")


def _note(batch: BatchInfo) -> str:
    if batch.status == "unreadable":
        return f"{batch.id}: {one_line(batch.problem or '')}"
    if batch.status in ("paused", "planned"):
        cause = batch.meta.get("cause")
        told = f" paused: {one_line(cause)}" if isinstance(cause, str) else " was interrupted"
        return f"{batch.id}{told}; plait resume {batch.id}"
    return ""


def _as_json(batch: BatchInfo, cost: float | None) -> dict[str, object]:
    done, failed = ended(batch)
    return {
        "id": batch.id,
        "workflow": batch.workflow,
        "status": batch.status,
        "cause": batch.meta.get("cause") or batch.problem,
        "done": done,
        "failed": failed,
        "total": batch.total,
        "cost_usd": cost,
        "created_at": batch.created_at,
        "size_bytes": batch.size_bytes,
        "folder": str(batch.place),
    }


# --- export and prune ----------------------------------------------------------------------------------


def export_batch(batch: str, file: Path, *, status: str | None, force: bool) -> int:
    """Write results to a file; returns the exit code."""
    wanted = STATUSES if status is None else tuple(part.strip() for part in status.split(","))
    if unknown := [part for part in wanted if part not in STATUSES]:
        raise InputError(f"--status: expected some of {','.join(STATUSES)}, found {','.join(unknown)}")
    _, settings = open_app(None)
    place = shelf_of(settings).find(batch)
    target = check_target(file, force=force)
    with place.read() as reader:
        count = export(reader, target, statuses=wanted)
    sys.stderr.write(f"wrote {file} ({rows(count)} of {place.id})\n")
    return 0


def prune_batches(older_than: str, *, dry_run: bool) -> int:
    """Remove old batches, or say which those are; returns the exit code."""
    older_than_s = span(older_than, "--older-than")
    _, settings = open_app(None)
    shelf = shelf_of(settings)
    removed = shelf.prune(older_than_s, time.time(), dry_run=dry_run)
    for batch in removed:
        done, failed = ended(batch)
        kept = "" if batch.size_bytes is None else f", {size(batch.size_bytes)}"
        sys.stdout.write(f"{batch.id}  {batch.status}, {done:,} done, {failed:,} failed{kept}\n")
    sizes = [batch.size_bytes for batch in removed if batch.size_bytes is not None]
    freed = f" {size(sum(sizes))}" if sizes or not removed else ""
    count = f"{len(removed)} batch{'' if len(removed) == 1 else 'es'}"
    sys.stderr.write(f"{'would free' if dry_run else 'freed'}{freed} ({count})\n")
    return 0
