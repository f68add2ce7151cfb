"""How long a report of 5,000 examples takes to be made, beside json.dumps of its data, and to be used in Chromium."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Figure, interleave, print_ratios
from plait.reports import ReportInput, render_report, write_report
from tests import report_data

EXAMPLES = 5000
ROUNDS = 5
OPENINGS = 5
SEARCHES = ("harbour", "a", "story-4999", "nowhere to be found")
FILTER = """words => {
  const search = document.getElementById("search");
  const began = performance.now();
  search.value = words;
  search.dispatchEvent(new Event("input"));
  document.body.offsetHeight;
  return performance.now() - began;
}"""
USABLE = "document.querySelectorAll('#runs tbody tr').length === 100 && performance.now()"


def main() -> None:
    """Print CPU seconds to render as a ratio, size, then seconds until usable and milliseconds to filter."""
    before, after = report_data.demo(EXAMPLES)
    reports = {"alone": report_data.alone(after), "against another": report_data.compared(before, after)}
    print(f"{EXAMPLES:,} examples with 3 scores; targets: made < 3 s, usable < 2 s, a filter < 100 ms")
    for name, report in reports.items():
        print(f"\nreport {name}")
        _render(report)
        _use(report)


def _render(report: ReportInput) -> None:
    both = [it for it in (report.before, report.experiment) if it is not None]
    subjects: dict[str, Callable[[], float]] = {
        "json.dumps": lambda: _cpu_s(lambda: [json.dumps(it.runs, default=_fields) for it in both]),
        "report": lambda: _cpu_s(lambda: render_report(report)),
    }
    print_ratios(interleave(subjects, rounds=ROUNDS), "json.dumps", unit="s", scale=1)
    print(f"size        {len(render_report(report).encode()) / 1e6:.1f} MB")


def _fields(value: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _use(report: ReportInput) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium on this machine: usable and filter are not measured")
        return
    usable, first, later = [], [], []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "report.html"
        write_report(report, file)
        browser = playwright.chromium.launch(executable_path=chromium, args=list(report_data.FLAGS))
        for _ in range(OPENINGS):
            page = browser.new_page()
            # `performance.now()` counts from the beginning of the navigation; `load` waits for the whole file.
            page.goto(file.as_uri())
            usable.append(page.wait_for_function(USABLE).json_value())
            first.append(page.evaluate(FILTER, "river"))
            later += [page.evaluate(FILTER, words) for words in SEARCHES]
            page.close()
        browser.close()
    print(f"usable      {Figure.of(usable).text(' ms', digits=0)}")
    print(f"1st search  {Figure.of(first).text(' ms', digits=0)}, at most {max(first):.0f} ms (reads all texts)")
    print(f"a search    {Figure.of(later).text(' ms', digits=0)}, at most {max(later):.0f} ms")
