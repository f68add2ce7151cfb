"""Horizontal bars as SVG, readable on light and on dark pages: what docs/performance.md shows of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _ROW, _BAR, _TOP, _GAP = 760, 26, 16, 46, 10
_LETTER = 6.6
"""Width of a letter of 12 px, about."""
_STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 }
.soft { fill: #59636e }
.bar { fill: #8c959f }
.ours { fill: #0969da }
.spread { stroke: #1f2328; stroke-width: 1.5 }
.axis { stroke: #d1d9e0 }
.target { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 4 3 }
.aim { fill: #cf222e }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .soft { fill: #9198a1 }
  .bar { fill: #6e7681 }
  .ours { fill: #4493f8 }
  .spread { stroke: #e6edf3 }
  .axis { stroke: #3d444d }
  .target { stroke: #ff7b72 }
  .aim { fill: #ff7b72 }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One subject."""

    label: str
    value: float
    text: str
    """Said behind the bar."""
    low: float | None = None
    high: float | None = None
    """Of the middle half of the rounds; None: there was one."""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A line through all bars."""

    value: float
    text: str


def bars(title: str, rows: Sequence[Bar], targets: Sequence[Target] = ()) -> str:
    """An SVG document; bars begin at 0."""
    left = max(_wide(row.label) for row in rows) + 2 * _GAP
    words = max(_wide(row.text) for row in rows) + 2 * _GAP
    most = max([row.high or row.value for row in rows] + [target.value for target in targets]) or 1.0
    scale = (_WIDTH - left - words) / most
    bottom = _TOP + len(rows) * _ROW
    height = bottom + (24 if targets else 8)
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_GAP}" y="22">{escape(title)}</text>',
        f'<line class="axis" x1="{left:.0f}" y1="{_TOP - 6}" x2="{left:.0f}" y2="{bottom}"/>',
    ]
    lines = sorted(left + target.value * scale for target in targets)
    for index, row in enumerate(rows):
        found += _row(row, _TOP + index * _ROW, left, scale, lines)
    for target in targets:
        x = left + target.value * scale
        found.append(f'<line class="target" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom + 4}"/>')
        found.append(
            f'<text class="aim" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(target.text)}</text>'
        )
    return "\n".join([*found, "</svg>", ""])


def _row(row: Bar, top: float, left: float, scale: float, lines: Sequence[float]) -> list[str]:
    middle, end = top + _BAR / 2, left + row.value * scale
    words_at = max(end, left + (row.high or 0.0) * scale) + 6
    for line in lines:  # a target's line through words makes them hard to read
        if words_at - 2 < line < words_at + _wide(row.text):
            words_at = line + 6
    wide, kind = max(1.0, row.value * scale), "ours" if row.ours else "bar"
    found = [
        f'<text x="{left - 8:.1f}" y="{middle + 4:.1f}" text-anchor="end">{escape(row.label)}</text>',
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{_BAR}" rx="2"/>',
        f'<text class="soft" x="{words_at:.1f}" y="{middle + 4:.1f}">{escape(row.text)}</text>',
    ]
    if row.low is not None and row.high is not None and row.high > row.low:
        low, high = left + row.low * scale, left + row.high * scale
        found.append(f'<line class="spread" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>')
    return found


def _wide(text: str) -> float:
    return len(text) * _LETTER
