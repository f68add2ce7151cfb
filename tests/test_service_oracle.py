"""Our server answers as the reference Agent Server does (tests/oracle/recorded.json), but for DIFFERENCES."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from plait.service import create_app
from tests.oracle.comparisons import Difference, unexplained
from tests.oracle.differences import DIFFERENCES
from tests.oracle.observations import Json, Observer, events_of, reduced
from tests.oracle.scenarios import SCENARIOS
from tests.serving import served, settings_in

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "oracle" / "recorded.json").read_text(encoding="utf-8"))["scenarios"]
PAGE = (HERE.parent / "docs" / "service-compatibility.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([A-Z]+) (/[^ `]*)` \| (same|more|not) \|", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    with served(HERE / "apps" / "service_app", settings=settings_in(home), store=home / "service.db") as found:
        yield found.url


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
async def test_our_server_answers_as_the_reference_does(scenario: str, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        observer = Observer(client)
        await SCENARIOS[scenario](observer)
    lines = unexplained(scenario, RECORDED[scenario], observer.seen, differences=DIFFERENCES)
    assert not lines, "\n".join(lines)


async def test_what_the_page_says_that_our_server_lacks_is_not_found(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for method, path in [(method, path) for method, path, word in ROWS if word == "not"]:
            answer = await client.request(method, re.sub(r"{[^}]*}", str(uuid4()), path), json={})
            assert answer.status_code in (404, 405), f"{method} {path}"


def test_every_scenario_was_recorded() -> None:
    assert sorted(RECORDED) == sorted(SCENARIOS)


def test_every_meant_difference_names_an_observation() -> None:
    for one in DIFFERENCES:
        scenarios = RECORDED if one.scenario == "*" else [one.scenario]
        labels = [str(seen["label"]) for name in scenarios for seen in RECORDED[name]]
        assert any(fnmatchcase(label, one.label) for label in labels), one
        assert one.why.endswith(".")


def test_a_difference_is_found_told_and_excused() -> None:
    recorded: list[dict[str, Json]] = [{"label": "get", "status": 200, "body": {"a": [1, {"b": None}], "c": "x"}}]
    seen: list[dict[str, Json]] = [{"label": "get", "status": 200, "body": {"a": [1, {"b": False}], "c": "x", "d": 1}}]
    lines = unexplained("s", recorded, seen, differences=())
    assert lines == ["get: body.a.1.b: expected None, found False", "get: body.d: expected '<missing>', found 1"]
    meant = Difference("s", "g*", "body.a.*.b", False, "We say no.")
    over = Difference("*", "*", "body.d", 1, "We say more.")
    assert unexplained("s", recorded, seen, differences=(meant, over)) == []
    stale = Difference("s", "get", "body.c", "y", "We said y.")
    lines = unexplained("s", recorded, recorded, differences=(stale,))
    assert lines == ["get: body.c: no longer differs: take it out of DIFFERENCES"]


def test_a_meant_status_settles_the_rest_of_the_answer() -> None:
    recorded: list[dict[str, Json]] = [{"label": "get", "status": 500, "body": "<text>"}]
    seen: list[dict[str, Json]] = [{"label": "get", "status": 422, "body": {"detail": "<str>"}}]
    meant = Difference("s", "get", "status", 422, "A wrong request is the caller's.")
    assert unexplained("s", recorded, seen, differences=(meant,)) == []


def test_ids_times_and_prose_are_no_part_of_an_observation() -> None:
    body: Json = {
        "id": "3f6d7a1e-0000-4000-8000-000000000000",
        "at": "2026-01-01T00:00:00+00:00",
        "detail": "Not there",
    }
    assert reduced(body) == {"id": "<id>", "at": "<time>", "detail": "<str>"}
    assert reduced({"n": [1, 2, 3]}, shape_only=True) == {"n": ["<int>"]}
    events = events_of(
        'event: values\r\ndata: {"a":1}\r\nid: 12-0\r\n\r\n: heartbeat\r\n\r\nevent: end\r\ndata: null\r\n\r\n'
    )
    assert [event.kept() for event in events] == [["values", {"a": 1}, "<event id>"], ["end", None]]


def test_the_page_tells_every_meant_difference() -> None:
    text = " ".join(PAGE.split())
    for one in DIFFERENCES:
        assert one.why in text, one


def test_the_page_has_a_row_for_every_endpoint_that_was_compared() -> None:
    asked = {str(seen["request"]).split("?")[0] for one in RECORDED.values() for seen in one if "request" in seen}
    rows = [re.compile(f"{method} " + re.sub(r"\{[^}]*\}", "[^/]+", path)) for method, path, _ in ROWS]
    asked -= {"GET /no/such/path", "GET /threads"}
    assert [one for one in sorted(asked) if not any(row.fullmatch(one) for row in rows)] == []


def test_the_page_says_of_every_endpoint_whether_it_is_there(tmp_path: Path) -> None:
    made = create_app(HERE / "apps" / "service_app", settings=settings_in(tmp_path), store=tmp_path / "service.db")
    ours = {(method.upper(), _blank(path)) for path, methods in made.openapi()["paths"].items() for method in methods}
    told = {(method, _blank(path)): word for method, path, word in ROWS}
    assert [one for one, word in told.items() if (word == "not") == (one in ours)] == []


def _blank(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)
