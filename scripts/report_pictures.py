"""Takes the pictures of reports for the docs: python scripts/report_pictures.py [FOLDER], docs/pictures if none."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from plait.reports import ReportInput, write_report  # noqa: E402
from tests import report_data  # noqa: E402

WIDTH = 1280


def main(folder: Path) -> None:
    """Write report.png (the experiment alone) and report-compare.png (against another)."""
    before, after = report_data.demo()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(report_data.FLAGS))
        _take(chromium, report_data.alone(after), folder / "report.png", height=1250)
        _take(chromium, report_data.compared(before, after), folder / "report-compare.png", height=1080)
        chromium.close()


def _take(chromium: Browser, report: ReportInput, picture: Path, *, height: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        write_report(report, file)
        page = chromium.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
        page.goto(file.as_uri())
        page.screenshot(path=picture)
        page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures")
