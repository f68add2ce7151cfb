"""Writes HTML from texts that nobody has checked, and numbers as a reader wants them."""

from __future__ import annotations

import datetime
import html
import json
import math
from collections.abc import Callable, Collection, Iterable, Sequence

from plait.reports.masks import Hide, hidden

__all__ = [
    "NOTHING",
    "UNSEEN",
    "Writer",
    "amount",
    "badge",
    "count",
    "moment",
    "number",
    "p_value",
    "points",
    "seconds",
    "share",
    "signed",
    "table",
    "usd",
    "writer",
]

Writer = Callable[[object], str]
"""Makes HTML of a text, or of any other value as JSON: keys and passwords hidden, everything escaped."""

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"
UNSEEN = '<span class="unseen">What</span>'
"""The head of a column whose cells say what they are."""
_SLIM = 3
"""Columns that a narrow page has room for."""


def writer(hide: Hide) -> Writer:
    """A Writer of what `hide` lets through."""

    def write(value: object) -> str:
        text = hide(value) if isinstance(value, str) else json.dumps(hidden(value, hide), ensure_ascii=False, indent=2)
        return html.escape(text, quote=True)

    return write


def table(label: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[int] = (0,)) -> str:
    """A table of cells that are HTML already. The first column is the rows' heading; the `words` are no numbers.

    The roles stand there because a narrow page shows rows as blocks, and browsers then forget that it is a table.
    """
    kinds = ["" if index in words else ' class="n"' for index in range(len(heads))]
    top = "".join(
        f'<th role="columnheader" scope="col"{kind}>{head}</th>' for kind, head in zip(kinds, heads, strict=True)
    )
    body = "".join(f'<tr role="row">{_cells(heads, kinds, row)}</tr>' for row in rows)
    return (
        f'<table class="plain {"slim" if len(heads) <= _SLIM else "wide"}" role="table" aria-label="{label}">'
        f'<thead role="rowgroup"><tr role="row">{top}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _cells(heads: Sequence[str], kinds: Sequence[str], row: Sequence[str]) -> str:
    first, *rest = row
    cells = [f'<th role="rowheader" scope="row">{first}</th>']
    # A narrow page sets the column's name beside the cell, whose content must then be one box.
    for head, kind, cell in zip(heads[1:], kinds[1:], rest, strict=True):
        cells.append(f'<td role="cell"{kind} data-head="{head}">{cell and f"<div>{cell}</div>"}</td>')
    return "".join(cells)


def badge(word: str, tone: str) -> str:
    """A word on a tint: good, bad or calm. The word says it all, the tint repeats it."""
    return f'<span class="badge {tone}">{word}</span>'


def number(value: float | None) -> str:
    """About four digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace("-", MINUS)
    if 0 < size < 0.001:
        return f"{value:.1e}".replace("-", MINUS)
    digits = 1 if size >= 100 else 2 if size >= 10 else 3
    return f"{value:.{digits}f}".replace("-", MINUS)


def share(value: float | None) -> str:
    """A share from 0 to 1 in percent."""
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.1f}{_SPACE}%"


def points(value: float | None) -> str:
    """A difference of shares, in percentage points."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{_signed(value, f'{100 * abs(value):.1f}')}{_SPACE}points"


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    return NOTHING if value is None or not math.isfinite(value) else _signed(value, number(abs(value)))


def _signed(value: float, text: str) -> str:
    # What rounds to zero has no sign.
    if not text.strip("0."):
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def amount(value: float | None, kind: str) -> str:
    """A metric's value: in percent where it is a share."""
    return share(value) if kind == "share" else number(value)


def count(value: int) -> str:
    """A whole number, in thousands."""
    return f"{value:,}"


def usd(value: float | None) -> str:
    """Dollars; None is a cost that nobody knows."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value and abs(value) < 0.00005:
        return f"${value:.1e}"
    return f"${value:,.2f}" if value == 0 or abs(value) >= 1 else f"${value:.4f}"


def seconds(value: float | None) -> str:
    """A duration in the unit that fits it."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value < 1:
        return f"{1000 * value:.0f}{_SPACE}ms"
    if value < 100:
        return f"{value:.2f}{_SPACE}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{_SPACE}h {minutes}{_SPACE}min" if hours else f"{minutes}{_SPACE}min {rest}{_SPACE}s"


def p_value(value: float | None) -> str:
    """A probability; those below 0.001 as such."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def moment(at_s: float) -> str:
    """A time in seconds since the epoch, in UTC."""
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
