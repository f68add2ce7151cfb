"""The web search: what is asked, what is kept, and one named error for everything that goes wrong."""

from __future__ import annotations

import socket

import pytest

from chains.search_web import WebSearchFailed, search_web
from tests.searxng import Result, Searxng, page


async def test_the_five_best_results_are_kept() -> None:
    async with Searxng([page(number) for number in range(8)]) as searxng:
        found = await search_web("what & why?", searxng_url=searxng.url + "/")
    assert [result["url"] for result in found] == [f"https://example.org/{number}" for number in range(5)]
    assert found[0] == {"title": "Page 0", "url": "https://example.org/0", "text": "What page 0 says."}
    assert searxng.queries == [{"q": "what & why?", "format": "json"}]


async def test_a_result_without_text_is_left_out_and_one_without_title_has_its_address() -> None:
    results: list[Result] = [
        {"url": "https://a.example", "title": "A", "content": None},
        {"url": "https://b.example", "content": "b"},
    ]
    async with Searxng(results) as searxng:
        found = await search_web("q", searxng_url=searxng.url)
    assert found == [{"title": "https://b.example", "url": "https://b.example", "text": "b"}]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "<html>Hello</html>", "expected SearXNG's JSON from .*, found text/html"),
        (500, "<html>Oops</html>", "found HTTP status 500"),
        (403, "<html>Forbidden</html>", "search.formats"),
    ],
)
async def test_what_is_no_result_is_an_error_that_says_what_came(status: int, body: str, words: str) -> None:
    async with Searxng(status=status, body=body) as searxng:
        with pytest.raises(WebSearchFailed, match=words):
            await search_web("q", searxng_url=searxng.url)


async def test_a_slow_server_is_given_up_after_the_timeout() -> None:
    async with Searxng([page(1)], held=True) as searxng:
        with pytest.raises(WebSearchFailed, match=r"no answer from .*/search within 0.05 s"):
            await search_web("q", searxng_url=searxng.url, timeout_s=0.05)


async def test_a_server_that_is_down_is_named_without_its_password() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(WebSearchFailed, match=f"cannot reach http://127.0.0.1:{port}/search") as caught:
            await search_web("q", searxng_url=f"http://me:secret@127.0.0.1:{port}")
    assert "secret" not in str(caught.value)


async def test_a_user_in_the_url_is_sent_and_not_shown() -> None:
    async with Searxng(status=500, body="") as searxng:
        with pytest.raises(WebSearchFailed, match="expected results from http://127") as caught:
            await search_web("q", searxng_url=searxng.url.replace("http://", "http://me:secret@"))
    assert searxng.headers[0]["Authorization"] == "Basic bWU6c2VjcmV0"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["a" * 300, "no..where", "xn--.example"])
async def test_a_host_that_cannot_be_looked_up_is_a_failed_search(host: str) -> None:
    with pytest.raises(WebSearchFailed):
        await search_web("q", searxng_url=f"http://{host}/")


@pytest.mark.parametrize("url", ["searx.example", "ftp://searx.example", "http://", "http://[", " "])
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(WebSearchFailed, match="expected a URL"):
        await search_web("q", searxng_url=url)
