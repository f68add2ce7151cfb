"""`plait show`: what a batch is, what it did and cost, what failed, what binds, and how to go on."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from plait.batches.entrances import EXPERIMENT
from plait.batches.sources import STDIN
from plait.cli.apps import open_app
from plait.cli.batch_costs import Spent, cost_usd, prices_of, spent_by_model
from plait.cli.batch_list import age, ended
from plait.cli.batch_words import one_line
from plait.cli.durations import money, rows, size, spell
from plait.cli.limits import facts
from plait.cli.values import clean
from plait.errors import PlaitError, StoreError
from plait.flow.budget_places import read_budget
from plait.flow.known_limits import Known, known_limits
from plait.json_values import dumps
from plait.prices import Prices
from plait.settings import Settings
from plait.store.places import BatchInfo, Place, shelf_of
from plait.store.rows import RowRecord

_EVERY_S = 1.0
_LINE_EVERY_S = 10.0
_STYLES = {"running": "cyan", "finished": "green", "paused": "yellow", "unreadable": "red"}


@dataclass(frozen=True, slots=True)
class Shown:
    """All that is said of a batch."""

    batch: BatchInfo
    spent: Sequence[Spent]
    cost_usd: float | None
    kinds: Mapping[str, int]
    """Failed rows by kind."""
    errors: Sequence[RowRecord]
    limits: Sequence[Known]
    """Of its models, while it runs."""


def show_batch(batch: str, *, as_json: bool, errors: int, watch: bool) -> int:
    """Print what is known of a batch, once or until it ends; returns the exit code."""
    _, settings = open_app(None)
    prices = prices_of(settings)
    place = shelf_of(settings).find(batch)
    if watch and not as_json:
        return _watch(place, settings, prices, errors)
    found = _look(place, settings, prices, errors)
    if as_json:
        sys.stdout.write(f"{dumps(_as_json(found), indent=2)}\n")
    else:
        Console(file=sys.stdout, highlight=False, markup=False).print(_page(found))
    return 0


def _look(place: Place, settings: Settings, prices: Prices, errors: int) -> Shown:
    batch = place.info()
    if batch.problem is not None:
        raise StoreError(batch.problem)
    with place.read() as reader:
        spent = spent_by_model(reader, prices)
        kinds: Counter[str] = Counter()
        if ended(batch)[1]:
            failed = reader.rows(statuses=("error", "timeout", "interrupted"))
            kinds.update(row.error.type if row.error else row.status for row in failed)
        latest = reader.errors(max(0, errors))
    limits = _limits(batch, settings) if batch.status == "running" else []
    return Shown(batch, spent, cost_usd(spent), dict(kinds.most_common()), latest, limits)


def _limits(batch: BatchInfo, settings: Settings) -> list[Known]:
    model = str(batch.meta.get("model") or "").partition(":")[2]
    try:
        entries, now, wall = read_budget(settings)
        found = known_limits(entries, settings, now, wall)
    except PlaitError:
        return []
    return [known for known in found if known.model == model or (known.model == "*" and known.in_flight)]


# --- watching ------------------------------------------------------------------------------------------


def _watch(place: Place, settings: Settings, prices: Prices, errors: int) -> int:
    stopped = threading.Event()
    numbers: list[int] = []

    def stop(number: int, _frame: object) -> None:
        numbers.append(number)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return _print_lines(place, stopped, numbers)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = _look(place, settings, prices, errors)
            # The cursor stands on an empty line, where the terminal's own ^C disturbs nothing.
            live.update(Group(_page(found), Text()), refresh=True)
            if found.batch.status != "running" or stopped.wait(_EVERY_S):
                return 128 + numbers[0] if numbers else 0


def _print_lines(place: Place, stopped: threading.Event, numbers: list[int]) -> int:
    while True:
        batch = place.info()
        sys.stdout.write(f"{batch.id}: {batch.status}, {_counts(batch)}\n")
        sys.stdout.flush()
        if batch.status != "running" or stopped.wait(_LINE_EVERY_S):
            return 128 + numbers[0] if numbers else 0


# --- the page ------------------------------------------------------------------------------------------


def _page(found: Shown) -> Group:
    batch = found.batch
    heading = Text(batch.id, style="bold", overflow="fold")
    heading.append(f"  {batch.status}", style=_STYLES.get(batch.status, ""))
    parts: list[Text | Padding] = [heading, Padding(_facts(found), (0, 0, 0, 2), expand=False)]
    if found.spent:
        parts += [Text("models", style="bold cyan"), Padding(_models(found.spent), (0, 0, 0, 2), expand=False)]
    if found.limits:
        parts.append(Text("limits now", style="bold cyan"))
        for known in found.limits:
            said = "; ".join(f"{label} {value}" for label, value in facts(known).items() if label != "answers")
            parts.append(_indented(f"{known.title}: {said}", ""))
    if found.kinds:
        parts += [Text("failed rows", style="bold cyan")]
        parts += [_indented(f"{number:,} x {kind}", "red") for kind, number in found.kinds.items()]
        parts += [_indented(_failure(row), "") for row in found.errors]
    if ways := _ways_on(found):
        parts += [Text("how to go on", style="bold cyan"), *(_indented(way, "") for way in ways)]
    return Group(*parts)


def _facts(found: Shown) -> Table:
    batch, meta = found.batch, found.batch.meta
    told: dict[str, str] = {"workflow": batch.workflow}
    if isinstance(notes := meta.get(EXPERIMENT), Mapping):
        told["experiment"] = f"{batch.name or batch.id} ({notes.get('definition')})"
    else:
        told["data"] = _source(meta.get("source"))
    if isinstance(model := meta.get("model"), str):
        told["model"] = model
    told["begun"] = f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(batch.created_at))}, {age(batch.created_at)}"
    if isinstance(finished_at := meta.get("finished_at"), int | float) and batch.status == "finished":
        told["finished"] = f"{age(finished_at)}, {spell(finished_at - batch.created_at)} after it began"
    if batch.status == "paused":
        told["paused"] = one_line(str(meta.get("cause") or "its process was killed"))
    if isinstance(wake_at := meta.get("wake_at"), int | float) and wake_at > time.time():
        told["quota resets"] = f"in {spell(wake_at - time.time())}"
    told["rows"] = _counts(batch)
    told["cost"] = _cost(found)
    if isinstance(out := meta.get("out"), str):
        told["out"] = out
    told["kept"] = str(batch.place) if batch.size_bytes is None else f"{size(batch.size_bytes)} in {batch.place}"
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for label, value in told.items():
        table.add_row(label, clean(value))
    return table


def _source(source: object) -> str:
    if source == STDIN:
        return f"standard input, kept as {STDIN}"
    return source if isinstance(source, str) else "rows of a Python iterable, kept"


def _counts(batch: BatchInfo) -> str:
    done, failed = ended(batch)
    total = "an unknown number of rows" if batch.total is None else rows(batch.total)
    said = f"{done:,} of {total} done, {failed:,} failed"
    return said if batch.total is None else f"{said}, {batch.total - done - failed:,} pending"


def _cost(found: Shown) -> str:
    batch = found.batch
    if found.cost_usd is None:
        unpriced = ", ".join(each.model for each in found.spent if each.cost_usd is None)
        return f'not known: no price of {unpriced} (add it to langgraph.json: "plait": {{"prices": ...}})'
    done, failed = ended(batch)
    said = money(found.cost_usd)
    if batch.total and done + failed and done + failed < batch.total:
        said += f", about {money(found.cost_usd * batch.total / (done + failed))} for all rows"
    return said


def _models(spent: Sequence[Spent]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("model", overflow="fold")
    for label in ("calls", "input", "cached", "output", "cost"):
        table.add_column(label, justify="right", overflow="fold")
    for each in spent:
        totals = each.totals
        cached = f"{100 * totals.cached_tokens / totals.input_tokens:.0f} %" if totals.input_tokens else ""
        cost = "?" if each.cost_usd is None else money(each.cost_usd)
        cells = (f"{totals.calls:,}", f"{totals.input_tokens:,}", cached, f"{totals.output_tokens:,}", cost)
        table.add_row(clean(each.model), *cells)
    return table


def _failure(row: RowRecord) -> str:
    kind, message = (row.error.type, row.error.message) if row.error else (row.status, "")
    return f"row {row.position + 1} ({one_line(row.id, 40)}): {kind}: {one_line(message)}"


def _indented(text: str, style: str) -> Padding:
    return Padding(Text(clean(text), style=style, overflow="fold"), (0, 0, 0, 2), expand=False)


def _ways_on(found: Shown) -> list[str]:
    batch = found.batch
    if batch.status == "running":
        return [f"plait show {batch.id} --watch"]
    ways = [f"plait resume {batch.id}"] if batch.status in ("paused", "planned") else []
    if ended(batch)[1]:
        ways.append(f"plait resume {batch.id} --errors-only")
    if EXPERIMENT in batch.meta:
        ways.append(f"plait report {batch.name or batch.id}")
    if sum(batch.counts.values()):
        ways.append(f"plait export {batch.id} FILE.csv")
    return ways


def _as_json(found: Shown) -> dict[str, object]:
    batch = found.batch
    done, failed = ended(batch)
    return {
        "id": batch.id,
        "workflow": batch.workflow,
        "status": batch.status,
        "cause": batch.meta.get("cause"),
        "wake_at": batch.meta.get("wake_at"),
        "source": batch.meta.get("source"),
        "model": batch.meta.get("model"),
        "created_at": batch.created_at,
        "total": batch.total,
        "done": done,
        "failed": failed,
        "counts": dict(batch.counts),
        "cost_usd": found.cost_usd,
        "models": [{"model": each.model, "totals": each.totals, "cost_usd": each.cost_usd} for each in found.spent],
        "kinds": found.kinds,
        "errors": [
            {"position": row.position, "id": row.id, "status": row.status, "error": row.error} for row in found.errors
        ],
        "out": batch.meta.get("out"),
        "size_bytes": batch.size_bytes,
        "folder": str(batch.place),
    }
