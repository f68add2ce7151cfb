"""Searches the web through a SearXNG server: one request, its best results, one error for all that can go wrong."""

from __future__ import annotations

import asyncio
from typing import TypedDict

import httpx2
from pydantic import BaseModel, ValidationError
from yarl import URL

from plait import PlaitError
from plait.flow.pool import Network, Pool
from plait.flow.scopes import current_settings

MOST_RESULTS = 5


class Page(TypedDict):
    """A search result: `text` is what the search engine shows of the page."""

    title: str
    url: str
    text: str


class WebSearchFailed(PlaitError):
    """The search server is down, slow, or answers with something else than results."""


class _Result(BaseModel):
    url: str
    title: str | None = None
    content: str | None = None


class _Answer(BaseModel):
    results: list[_Result]


async def search_web(question: str, *, searxng_url: str, timeout_s: float = 10.0) -> list[Page]:
    """At most five pages, best first. Raises WebSearchFailed, after `timeout_s` seconds at the latest."""
    address = _address(searxng_url)
    pool = Pool(Network(proxies=current_settings().proxies))
    query = {"q": question, "format": "json"}
    auth = (address.user or "", address.password or "") if address.user or address.password else None
    try:
        async with asyncio.timeout(timeout_s), httpx2.AsyncClient(transport=pool, follow_redirects=True) as client:
            response = await client.get(str(_shown(address)), params=query, timeout=timeout_s, auth=auth)
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise WebSearchFailed(f"no answer from {_shown(address)} within {timeout_s:g} s") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:  # UnicodeError: a host that DNS cannot spell
        raise WebSearchFailed(f"cannot reach {_shown(address)}; is SearXNG running there?") from error
    found = _read(response, address).results
    return [
        Page(title=(result.title or "").strip() or result.url, url=result.url, text=text)
        for result in found
        if (text := (result.content or "").strip())
    ][:MOST_RESULTS]


def _address(searxng_url: str) -> URL:
    try:
        url = URL(searxng_url.strip())
        if url.scheme in {"http", "https"} and url.host:
            return url.with_query(None).with_fragment(None) / "search"
    except ValueError:
        pass  # said below, without the text: it may hold a password
    raise WebSearchFailed("searxng_url: expected a URL such as http://127.0.0.1:8888, found something else")


def _shown(address: URL) -> URL:
    return address.with_user(None)  # and so without the password


def _read(response: httpx2.Response, address: URL) -> _Answer:
    if response.status_code == 403:  # SearXNG's answer where its settings do not list the format
        raise WebSearchFailed(f"{_shown(address)} refused (403): add json to search.formats in SearXNG's settings.yml")
    if response.status_code != 200:
        raise WebSearchFailed(f"expected results from {_shown(address)}, found HTTP status {response.status_code}")
    try:
        return _Answer.model_validate_json(response.content)
    except ValidationError as error:
        kind = response.headers.get("content-type", "no content type").partition(";")[0]
        raise WebSearchFailed(
            f"expected SearXNG's JSON from {_shown(address)}, found {kind}; check searxng_url"
        ) from error
