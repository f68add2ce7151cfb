"""Answers a question from documents and the web, searched at the same time; the answer cites its sources."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import Field, StringConstraints

from chains.answer_from_sources import Source, answer_from_sources, cited
from chains.search_documents import Passage, search_documents
from chains.search_web import Page, WebSearchFailed, search_web
from plait.flow.scopes import current_settings

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Question = Annotated[Text, "what you want to know"]
Paths = Annotated[Text | Annotated[list[Text], Field(min_length=1)], "a file or folder of documents, or a list of them"]
TopK = Annotated[int, Field(ge=1, le=50), "how many passages of the documents the answer may use (4)"]

NOT_CONFIGURED = "web search is not configured: set PLAIT_SEARXNG_URL to a SearXNG server that speaks JSON"


class Input(TypedDict):
    question: Question
    path: Paths
    top_k: NotRequired[TopK]


class Output(TypedDict):
    answer: str
    sources: list[Source]
    notes: Annotated[list[str], operator.add]


class State(Input, Output):
    passages: list[Passage]
    pages: list[Page]


class Found(TypedDict, total=False):
    passages: list[Passage]
    pages: list[Page]
    notes: list[str]


@dataclass(frozen=True)
class Context:
    model: str | None = None
    """`endpoint:model` for this workflow; else the run's."""
    prompt: str | None = None
    """Instructions in place of chains.answer_from_sources.PROMPT."""
    searxng_url: str | None = None
    """A SearXNG server whose settings allow the format json; without one the web is not searched."""
    web_timeout_s: float = 10.0
    embed: bool = False
    """Search by meaning too, not by words alone (needs plait[embed])."""
    cache: str | None = None
    """The folder that keeps embeddings; else the user's cache."""


async def in_documents(state: State, runtime: Runtime[Context]) -> Found:
    context, write = runtime.context or Context(), runtime.stream_writer
    passages = await search_documents(
        state["question"],
        state["path"],
        top_k=state.get("top_k", 4),
        embed=context.embed,
        cache=_cache(context),
        progress=lambda done, of: write({"label": "documents", "progress": done, "of": of}),
    )
    return {"passages": passages}


async def in_web(state: State, runtime: Runtime[Context]) -> Found:
    context = runtime.context or Context()
    searxng_url = context.searxng_url or current_settings().searxng_url
    if not searxng_url:
        return {"pages": [], "notes": [NOT_CONFIGURED]}
    try:
        pages = await search_web(state["question"], searxng_url=searxng_url, timeout_s=context.web_timeout_s)
    except WebSearchFailed as error:
        return {"pages": [], "notes": [f"web search failed: {error}"]}
    return {"pages": pages, "notes": [] if pages else ["web search found nothing"]}


async def answer(state: State, runtime: Runtime[Context]) -> Output:
    context = runtime.context or Context()
    sources = _sources(state["passages"], state["pages"])
    if not sources:  # nothing to answer from: a model could only invent, so none is asked
        text = "No source was found that is about this question, so there is no answer."
        return {"answer": text, "sources": [], "notes": []}
    text = await answer_from_sources(state["question"], sources, prompt=context.prompt, model=context.model)
    return {"answer": text, "sources": sources, "notes": _about_citations(text, len(sources))}


def _sources(passages: list[Passage], pages: list[Page]) -> list[Source]:
    found = [
        Source(id=0, kind="document", title=p["document"], location=_location(p), text=p["text"]) for p in passages
    ]
    found += [Source(id=0, kind="web", title=p["title"], location=p["url"], text=p["text"]) for p in pages]
    return [{**source, "id": number} for number, source in enumerate(found, start=1)]


def _location(passage: Passage) -> str:
    return f"{passage['document']}, passage {passage['number']} of {passage['of']}"


def _about_citations(text: str, known: int) -> list[str]:
    numbers = cited(text)
    if not numbers:
        return ["the answer cites no source: check it against the sources below"]
    unknown = [f"[{number}]" for number in numbers if not 1 <= number <= known]
    return [f"the answer cites {', '.join(unknown)}, but the sources end at [{known}]"] if unknown else []


def _cache(context: Context) -> Path:
    return Path(context.cache) if context.cache else current_settings().cache


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
builder.add_node("search_documents", in_documents)
builder.add_node("search_web", in_web)
builder.add_node(answer)
builder.add_edge(START, "search_documents")
builder.add_edge(START, "search_web")
builder.add_edge(["search_documents", "search_web"], "answer")
builder.add_edge("answer", END)
graph = builder.compile(name="rag")
