"""Writes the performance pages of docs and their pictures from the kept results and the words in benchmarks/pages.

Of a page the line `{table NAME}` becomes what that benchmark printed, under its command; `{picture NAME: WORDS}` its
plot; `{goals}` where plait stands; `{losses}` where others are ahead; `{machine}` where all was measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.page_goals import goals_table, read_goals
from benchmarks.page_losses import losses
from benchmarks.page_plots import PLOTS, draw
from benchmarks.records import ROOT, BenchmarkFailed, Result, keep, read_results

PAGES = Path(__file__).parent / "pages"
DOCS = ROOT / "docs"
_DIRECTIVE = re.compile(r"^((?:- )?)\{(\w+)(?: ([^}]+))?\}$", re.MULTILINE)
_TABLE = re.compile(r"^\{table ([^}]+)\}$", re.MULTILINE)


class BadPage(Exception):
    """A page asks for something that there is not."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A file of docs."""

    path: Path
    text: str


def main(*, measure: bool) -> int:
    """Write the pages; `measure`: measure all their tables first. An exit code: 1 where a benchmark failed."""
    failed = []
    if measure:
        for name in wanted():
            print(f"\n## {name}", flush=True)
            try:
                keep(name)
            except BenchmarkFailed as error:
                print(error, flush=True)
                failed.append(name)
    for each in generate(read_results()):
        each.path.parent.mkdir(parents=True, exist_ok=True)
        each.path.write_text(each.text, encoding="utf-8")
        print(f"wrote {each.path.relative_to(ROOT)}")
    if failed:
        print(f"failed, and shown as they were measured before: {', '.join(failed)}")
    return 1 if failed else 0


def wanted(pages: Path = PAGES) -> list[str]:
    """The benchmarks whose tables are shown or whose figures a goal reads, each once, those of shared figures last."""
    names = [name for page in sorted(pages.glob("*.md")) for name in _TABLE.findall(page.read_text(encoding="utf-8"))]
    names += [goal.result for goal in read_goals()]
    # It computes from what the others measured.
    return [name for name in dict.fromkeys(names) if name != "capacity"] + ["capacity"]


def generate(results: Mapping[str, Result], pages: Path = PAGES) -> list[Generated]:
    """All files, from these results. Raises BadPage and Unreadable."""
    found = [
        Generated(DOCS / page.name, fill(page.read_text(encoding="utf-8"), results, page.name))
        for page in sorted(pages.glob("*.md"))
    ]
    return found + [Generated(DOCS / "pictures" / name, text) for name, text in draw(results).items()]


def fill(text: str, results: Mapping[str, Result], page: str) -> str:
    """The page with its directives replaced. Raises BadPage and Unreadable."""
    known: dict[str, Callable[[str], str]] = {
        "table": lambda name: _table(name, results),
        "picture": lambda words: _picture(words, results),
        "goals": lambda _: goals_table(read_goals(), results),
        "losses": lambda _: losses(results),
        "machine": lambda _: _machine(results),
    }

    def replace(match: re.Match[str]) -> str:
        if match[2] not in known:
            raise BadPage(f"{page}: expected one of {', '.join(known)}; found {match[0]}")
        return match[1] + known[match[2]](match[3] or "")

    note = f"<!-- Generated from benchmarks/pages/{page} by `python -m benchmarks page`: change it there. -->\n"
    # A picture that is not there leaves nothing behind.
    return note + re.sub(r"\n{3,}", "\n\n", _DIRECTIVE.sub(replace, text))


def _table(name: str, results: Mapping[str, Result]) -> str:
    if name not in results:
        return f"`python -m benchmarks {name}`: not measured yet."
    result = results[name]
    printed = "\n".join(result.lines).strip("\n")
    load = " to ".join(f"{each:.1f}" for each in result.load)
    return f"`{result.command}`, {result.measured} UTC{_took(result.took_s)}, load {load}:\n\n```text\n{printed}\n```"


def _took(seconds: int) -> str:
    if not seconds:  # carried over from pages that were written by hand
        return ", with an earlier plait"
    return f", {seconds} s" if seconds < 120 else f", {seconds / 60:.0f} minutes"


def _picture(words: str, results: Mapping[str, Result]) -> str:
    name, _, said = words.partition(": ")
    if name not in PLOTS:
        raise BadPage(f"expected a picture of {', '.join(PLOTS)}; found {name}")
    return f"![{said}](pictures/performance-{name}.svg)" if PLOTS[name][0] in results else ""


def _machine(results: Mapping[str, Result]) -> str:
    machines = dict.fromkeys(result.machine for result in results.values())
    versions: dict[str, dict[str, None]] = {}
    for result in results.values():
        for package, version in result.versions.items():
            versions.setdefault(package, {})[version] = None
    told = ", ".join(f"{package} {' and '.join(found)}" for package, found in versions.items())
    return f"{'; '.join(machines)}. Versions: {told}; those of the peers stand under their tables."
