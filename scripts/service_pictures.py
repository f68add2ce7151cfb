"""Takes the pictures of the service's page: python scripts/service_pictures.py [FOLDER], docs/pictures if none."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from plait.simulator import Profile, running, scripted  # noqa: E402
from tests.report_data import FLAGS  # noqa: E402
from tests.serving import served, settings_in  # noqa: E402

PORT = 8311
"""Of the simulated provider: it is seen in the pictures."""
TOPICS = ("a magical forest", "a lighthouse at night", "the last train home")
FOREST = """At dusk the forest began to hum. Mira counted the lanterns as they woke along the river, one by one, and \
nobody had lit them. She followed the light until the path forgot its own name. "You took your time," said the oldest \
oak. It bent down, and in its crown slept every evening she had ever wished to keep."""
LIGHTHOUSE = """The lamp had been dark for nine years when the first ship answered it. Old Tomas rowed out with a \
kettle and a coil of rope. The deck was empty but for a clock that ran backwards and a letter with his name on it, \
written in a hand he knew. He read it twice. Then he climbed the stairs and lit the lamp himself."""
TRAIN = """Nobody got off at Elm Hill any more, so the driver looked up when the bell rang. The girl in the third \
carriage held a paper boat. "My grandfather built this station," she said, "out of driftwood." The train waited. Far \
below, where the map showed nothing at all, somebody had left the porch light on."""


def main(folder: Path) -> None:
    """Write service-run.png (three streams at once) and service-phone.png (the end of it, on a narrow screen)."""
    rules = [("forest", FOREST), ("lighthouse", LIGHTHOUSE), ("train", TRAIN)]
    profile = Profile(ttft_s=0.3, gap_s=0.06, rpm=240, burst=3)
    with (
        tempfile.TemporaryDirectory() as home,
        running(profile, answer=scripted(rules), port=PORT) as provider,
        served(ROOT, settings=settings_in(Path(home), base_url=provider.base_url)) as server,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = _begin(chromium, server.url, width=1280, height=860)
        expect(page.locator(".stream").last).to_contain_text("paper boat")
        expect(page.locator("#limits")).to_contain_text("in flight")
        page.screenshot(path=folder / "service-run.png")
        expect(page.locator(".run .badge")).to_have_text("success", timeout=20_000)
        page = _begin(chromium, server.url, width=390, height=844)
        expect(page.locator(".run .badge")).to_have_text("success", timeout=20_000)
        page.locator(".run").scroll_into_view_if_needed()
        page.locator(".run").evaluate("run => run.scrollIntoView()")
        page.screenshot(path=folder / "service-phone.png")
        chromium.close()


def _begin(chromium: Browser, url: str, *, width: int, height: int) -> Page:
    page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme="light", reduced_motion="reduce")
    page.goto(f"{url}/#/workflows/stories")
    page.get_by_label("topics").fill("\n".join(TOPICS))
    page.get_by_role("button", name="Run", exact=True).click()
    return page


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures")
