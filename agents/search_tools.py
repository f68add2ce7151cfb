"""The searches that agents may call; each gives text to the model and, as its artifact, the sources of the text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from langchain_core.tools import BaseTool, tool

from chains.search_documents import search_documents as find_passages
from chains.search_web import WebSearchFailed
from chains.search_web import search_web as find_pages

Results = tuple[str, list[str]]

NOTHING = "Nothing was found. Try other words."


def search_tools(path: str | Sequence[str] | None, searxng_url: str | None) -> list[BaseTool]:
    """What can be searched: documents where a path is given, the web where a SearXNG server is."""
    tools = [_document_tool(path)] if path else []
    return [*tools, _web_tool(searxng_url)] if searxng_url else tools


def _document_tool(path: str | Sequence[str]) -> BaseTool:
    @tool(response_format="content_and_artifact")
    async def search_documents(query: str) -> Results:
        """Find passages in the user's documents. The query is a few words that such a passage contains."""
        return _results((passage["document"], passage["text"]) for passage in await find_passages(query, path))

    return search_documents


def _web_tool(searxng_url: str) -> BaseTool:
    @tool(response_format="content_and_artifact")
    async def search_web(query: str) -> Results:
        """Find pages of the web. The query is a few words, as in a search box."""
        try:
            pages = await find_pages(query, searxng_url=searxng_url)
        except WebSearchFailed as error:  # the model may still answer from what else it finds
            return f"The web cannot be searched now: {error}", []
        return _results((page["url"], f"{page['title']}\n{page['text']}") for page in pages)

    return search_web


def _results(found: Iterable[tuple[str, str]]) -> Results:
    results = list(found)
    text = "\n\n".join(f"[{source}]\n{content}" for source, content in results)
    return text or NOTHING, list(dict.fromkeys(source for source, _ in results))
