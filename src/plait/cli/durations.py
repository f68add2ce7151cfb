"""Numbers, times, sizes and money as people read them."""

from __future__ import annotations


def spell(seconds: float) -> str:
    """A duration: 12 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 and whole < 600 else "")
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def roughly(seconds: float) -> str:
    """A duration in its largest unit: 12 s, 3 min, 2 h, 40 d."""
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def money(usd: float) -> str:
    """Dollars, with as many digits as tell something."""
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.3f}" if usd >= 0.1 else f"${usd:.4f}" if usd >= 0.0001 else "under $0.0001"


def size(number: float) -> str:
    """Bytes."""
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.{0 if unit == 'B' or number >= 10 else 1}f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def rate(per_second: float) -> str:
    """Things a second."""
    return f"{per_second:,.{0 if per_second >= 100 else 1 if per_second >= 1 else 2}f}"


def rows(number: int) -> str:
    """1 row, 2,000 rows."""
    return f"{number:,} row{'' if number == 1 else 's'}"
