"""Summarizes texts of any length: splits them, summarizes all pieces at once, reduces the summaries as a tree."""

from __future__ import annotations

import logging
import operator
from functools import partial
from typing import Annotated, Literal, NotRequired, TypedDict

import anyio.to_thread
from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from pydantic import Field

from chains.answers import room_of
from chains.documents import Document, read_documents, split_text
from chains.summarize_text import summarize_text
from graphs.summary_context import Context
from graphs.summary_tree import Input as TreeInput
from graphs.summary_tree import part_words, tree
from plait import is_fatal
from plait.errors import InputError, RunFailed

logger = logging.getLogger(__name__)

Texts = Annotated[list[str], Field(min_length=1), "what to summarize (or give a path)"]
Path = Annotated[str | list[str], "a file, a folder or a list of them: text, Markdown, HTML, CSV, JSON"]
Words = Annotated[int, Field(ge=10, le=2000), "about how long the summary is, in words (120)"]


class Summary(TypedDict):
    name: str
    summary: str | None
    error: str | None


class Input(TypedDict):
    texts: NotRequired[Texts]
    path: NotRequired[Path]
    words: NotRequired[Words]


class Output(TypedDict):
    summary: str
    documents: list[Summary]


class Part(TypedDict):
    document: int
    index: int
    summary: str | None
    error: str | None


class State(Input, Output):
    names: list[str]
    parts: Annotated[list[Part], operator.add]
    """Summaries of the pieces, as they come."""
    merged: Annotated[dict[int, Part], operator.or_]
    """Summaries of the documents that have several pieces."""


class Piece(TypedDict):
    document: int
    index: int
    of: int
    text: str
    label: str
    words: int


class Pieces(TypedDict):
    document: int
    summaries: list[str]
    label: str
    words: int


class Summarized(TypedDict):
    parts: list[Part]


class Merged(TypedDict):
    merged: dict[int, Part]


async def load(state: State, runtime: Runtime[Context]) -> Command[Literal["summarize"]]:
    context = runtime.context or Context()
    documents = await _documents(state)
    most_chars = context.most_chars or room_of(context.model)
    split = partial(_split, documents, most_chars)
    pieces = await anyio.to_thread.run_sync(split)
    words = state.get("words", 120)
    alone = len(documents) == 1 and len(pieces[0]) == 1
    sends = [
        Send(
            "summarize",
            Piece(
                document=number,
                index=index,
                of=len(texts),
                text=text,
                label="summary" if alone else _label(documents[number]["name"], index, len(texts)),
                words=words if alone else part_words(words, most_chars),
            ),
        )
        for number, texts in enumerate(pieces)
        for index, text in enumerate(texts)
    ]
    return Command(update={"names": [document["name"] for document in documents]}, goto=sends)


async def summarize(state: Piece, runtime: Runtime[Context]) -> Summarized:
    context = runtime.context or Context()
    summary = await summarize_text(
        state["text"], words=state["words"], label=state["label"], prompt=context.map_prompt, model=context.model
    )
    return {"parts": [Part(document=state["document"], index=state["index"], summary=summary, error=None)]}


async def note_failed_piece(state: Piece, error: NodeError) -> Command[Literal["settle"]]:
    where = f"piece {state['index'] + 1} of {state['of']}: " if state["of"] > 1 else ""
    part = _failed(state["document"], state["index"], error, where)
    # Where every branch fails, LangGraph does not follow the edge of the node that failed.
    return Command(update=Summarized(parts=[part]), goto="settle")


async def settle(state: State, runtime: Runtime[Context]) -> Command[Literal["merge", "collect"]]:
    """Documents of several pieces get one summary each, at the same time; one failed piece fails its document."""
    context = runtime.context or Context()
    words, names = state.get("words", 120), state["names"]
    alone = len(names) == 1
    sends = []
    for number, parts in _by_document(state).items():
        summaries = [part["summary"] for part in parts if part["summary"] is not None]
        if len(summaries) == len(parts) > 1:
            label = "summary" if alone else names[number]
            length = words if alone else part_words(words, context.most_chars or room_of(context.model))
            sends.append(Send("merge", Pieces(document=number, summaries=summaries, label=label, words=length)))
    return Command(goto=sends or "collect")


async def merge(state: Pieces) -> Merged:
    reduced = await tree.ainvoke(TreeInput(summaries=state["summaries"], label=state["label"], words=state["words"]))
    part = Part(document=state["document"], index=0, summary=reduced["summary"], error=None)
    return {"merged": {state["document"]: part}}


async def note_failed_merge(state: Pieces, error: NodeError) -> Command[Literal["collect"]]:
    part = _failed(state["document"], 0, error, "")
    return Command(update=Merged(merged={state["document"]: part}), goto="collect")


async def collect(state: State) -> Command[Literal["finish", "__end__"]]:
    documents: list[Summary] = []
    for number, parts in _by_document(state).items():
        settled = [state["merged"][number]] if number in state["merged"] else parts
        error = next((part["error"] for part in settled if part["error"]), None)
        summary = None if error else settled[0]["summary"]
        documents.append(Summary(name=state["names"][number], summary=summary, error=error))
    summaries = [document["summary"] for document in documents if document["summary"] is not None]
    if not summaries:
        raise RunFailed(
            f"expected a summary of {_count(documents)}, found none; {documents[0]['name']}: {documents[0]['error']}"
        )
    if len(summaries) == 1:
        return Command(update={"documents": documents, "summary": summaries[0]}, goto="__end__")
    return Command(update={"documents": documents}, goto="finish")


async def finish(state: State) -> dict[str, str]:
    summaries = [f"{item['name']}: {item['summary']}" for item in state["documents"] if item["summary"] is not None]
    reduced = await tree.ainvoke(TreeInput(summaries=summaries, label="summary", words=state.get("words", 120)))
    return {"summary": reduced["summary"]}


async def _documents(state: State) -> list[Document]:
    texts, path = state.get("texts"), state.get("path")
    if (texts is None) == (path is None):
        found = "neither" if texts is None else "both"
        raise InputError(
            f"path or texts: expected one of them, found {found}; try path=articles/ or texts:='[\"...\"]'"
        )
    if path is not None:
        return await read_documents(path)
    documents = []
    for number, text in enumerate(texts or [], start=1):
        if text.strip():
            documents.append(Document(name=f"text {number}", text=text))
        else:
            logger.warning("text %d is empty; left out", number)
    if not documents:
        raise InputError("texts: expected at least one text, found only empty ones")
    return documents


def _split(documents: list[Document], most_chars: int) -> list[list[str]]:
    return [split_text(document["text"], most_chars=most_chars) for document in documents]


def _label(name: str, index: int, of: int) -> str:
    return name if of == 1 else f"{name} ({index + 1}/{of})"


def _failed(document: int, index: int, error: NodeError, where: str) -> Part:
    if is_fatal(error.error):  # a refused key fails every branch alike: better said once
        raise error.error
    return Part(
        document=document, index=index, summary=None, error=f"{where}{type(error.error).__name__}: {error.error}"
    )


def _by_document(state: State) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = {number: [] for number in range(len(state["names"]))}
    for part in sorted(state["parts"], key=lambda part: (part["document"], part["index"])):
        found[part["document"]].append(part)
    return found


def _count(documents: list[Summary]) -> str:
    return "the document" if len(documents) == 1 else f"at least one of {len(documents)} documents"


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
builder.add_node(load)
# LangGraph passes NodeError to error handlers, and its annotations do not know it yet.
builder.add_node("summarize", summarize, input_schema=Piece, error_handler=note_failed_piece)  # pyright: ignore[reportArgumentType, reportCallIssue]
builder.add_node(settle)
builder.add_node("merge", merge, input_schema=Pieces, error_handler=note_failed_merge)  # pyright: ignore[reportArgumentType, reportCallIssue]
builder.add_node(collect)
builder.add_node(finish)
builder.add_edge(START, "load")
builder.add_edge("summarize", "settle")
builder.add_edge("merge", "collect")
builder.add_edge("finish", END)
graph = builder.compile(name="summarize")
