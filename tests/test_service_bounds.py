"""What one request may cost the service: bodies of strangers, brackets, long lists of what is wrong, steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from plait.service import ServiceOptions
from plait.service.problems import problem
from plait.service.routes.service_routes import _check_shape
from tests.service_api import APP
from tests.serving import served, settings_in
from tests.test_service_isolation import standing

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ServiceOptions(max_recursion=50, max_body_bytes=1_000_000)
    with served(APP, settings=settings_in(tmp_path_factory.mktemp("open")), options=options) as found:
        yield found.url


@pytest.mark.parametrize("way", ["keys", "auth"])
@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"x" * 11_000_000], ids=["broken", "deep", "long"])
def test_a_body_is_not_read_before_it_is_known_who_sends_it(tmp_path: Path, way: str, body: bytes) -> None:
    with standing(tmp_path, way) as stand:
        assert httpx.post(f"{stand.url}/runs", content=body, headers=JSON).status_code == 401
        with stand.client("ada") as ada:
            assert ada.post("/runs", content=body, headers=JSON).status_code in (413, 422)


def chunks(size: int) -> Iterator[bytes]:
    yield b'{"assistant_id": "'
    for _ in range(size // 10_000):
        yield b"x" * 10_000
    yield b'"}'


def test_a_body_without_a_length_is_bounded_too(url: str) -> None:
    assert httpx.post(f"{url}/runs", content=chunks(900_000), headers=JSON).status_code == 422
    answer = httpx.post(f"{url}/runs", content=chunks(3_000_000), headers=JSON)
    assert (answer.status_code, "1,000,000 bytes" in answer.json()["detail"]) == (413, True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 65 + b"]" * 65, "64 levels"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "64 levels"),
        (b'["\\"]' + b"]" * 100 + b'"' + b", [" * 64 + b"]" * 65, "64 levels"),
        (b"[" + b"[]," * 260_000 + b"[]]", "250,000 objects"),
    ],
)
def test_brackets_are_bounded_in_depth_and_number(body: bytes, said: str) -> None:
    with pytest.raises(type(problem(422, ""))) as caught:
        _check_shape(body, 64)
    assert said in caught.value.detail


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 64 + b"]" * 64,
        b'{"a": "' + b"[{" * 300_000 + b'"}',
        b'{"a": "\\"' + b"[" * 100 + b'", "b": "\\\\", "c": [' + b"[]," * 100 + b"1]}",
        b"[" + b"[]," * 200_000 + b"[]]",
    ],
)
def test_brackets_in_texts_and_beside_each_other_are_no_depth(body: bytes) -> None:
    _check_shape(body, 64)


WRONG: list[tuple[str, str, Any]] = [
    ("POST", "/runs/batch", [0]),
    ("POST", "/runs", {"assistant_id": "steps", "feedback_keys": [0]}),
    ("POST", "/runs", {"assistant_id": "steps", "stream_mode": [0]}),
    ("POST", "/runs", {"assistant_id": "steps", "interrupt_before": [0]}),
    ("POST", "/runs", {"assistant_id": "steps", "config": {"tags": [0]}}),
    ("POST", "/threads", {"supersteps": [{"updates": [0]}]}),
    ("POST", "/threads/search", {"select": [0]}),
    ("POST", "/threads/search", {"extract": {"0": 0}}),
    ("POST", "/assistants/search", {"select": [0]}),
    ("POST", "/runs/crons/search", {"select": [0]}),
    ("POST", "/runs/crons", {"assistant_id": "steps", "schedule": "@daily", "stream_mode": [0]}),
    ("PUT", "/store/items", {"namespace": ["a"], "key": "b", "value": {}, "index": [0]}),
    ("POST", "/v1/chat/completions", {"model": "echo", "messages": [0]}),
]


def grown(value: Any, to: int) -> Any:
    """With as many of each lone 0 in a list or an object."""
    if value == [0]:
        return value * to
    if value == {"0": 0}:
        return dict.fromkeys(map(str, range(to)), 0)
    if isinstance(value, dict):
        return {key: grown(inner, to) for key, inner in value.items()}
    return [grown(inner, to) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("method", "path", "body"), WRONG, ids=[f"{path} {body}" for _, path, body in WRONG])
def test_a_long_list_of_what_is_wrong_is_refused_at_its_length(url: str, method: str, path: str, body: Any) -> None:
    answer = httpx.request(method, f"{url}{path}", json=grown(body, 20_000))
    assert (answer.status_code in (400, 422), len(answer.text) < 2_000) == (True, True), answer.text[:300]


@pytest.mark.parametrize("limit", [51, 10**12, 1e9, "1000", [1]])
def test_an_assistants_recursion_limit_is_no_way_around_the_services(url: str, limit: Any) -> None:
    made = httpx.post(f"{url}/assistants", json={"graph_id": "steps", "config": {"recursion_limit": limit}})
    if made.status_code < 300:
        run = {"assistant_id": made.json()["assistant_id"], "input": {}}
        made = httpx.post(f"{url}/runs/wait", json=run)
    assert (made.status_code, "recursion_limit" in made.text) == (422, True), made.text
