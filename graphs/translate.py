"""Translates a text into several languages at once, long texts piece by piece; failures stand beside the others."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, TypedDict

import anyio.to_thread
from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from pydantic import Field, StringConstraints

from chains.answers import room_of
from chains.documents import cut_text
from chains.translate_text import translate_text
from plait import is_fatal

Language = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Languages = Annotated[list[Language], Field(min_length=1), "into which languages; one that is named twice counts once"]
Text = Annotated[str, Field(pattern=r"\S"), "what to translate"]


class Translation(TypedDict):
    text: str | None
    error: str | None


class Input(TypedDict):
    text: Text
    languages: Languages


class Output(TypedDict):
    translations: dict[str, Translation]


class Part(TypedDict):
    language: str
    index: int
    text: str
    error: str | None


class State(Input, Output):
    parts: Annotated[list[Part], operator.add]


class Piece(TypedDict):
    language: str
    label: str
    index: int
    text: str


class Translated(TypedDict):
    parts: list[Part]


@dataclass(frozen=True)
class Context:
    model: str | None = None
    """`endpoint:model` for this workflow; else the run's."""
    prompt: str | None = None
    """Instead of `chains.translate_text.PROMPT`."""
    most_chars: Annotated[int, Field(ge=100)] | None = None
    """How many characters one question carries; by default what the model can answer in one go."""


async def split(state: State, runtime: Runtime[Context]) -> Command[Literal["translate"]]:
    context = runtime.context or Context()
    # An answer is about as long as its question, and models answer at less length than they read.
    most_chars = context.most_chars or room_of(context.model) // 3
    texts = await anyio.to_thread.run_sync(partial(_cut, state["text"], most_chars))
    return Command(
        goto=[
            Send(
                "translate",
                Piece(
                    language=language,
                    label=language if len(texts) == 1 else f"{language} ({index + 1}/{len(texts)})",
                    index=index,
                    text=text,
                ),
            )
            for language in _told_once(state["languages"])
            for index, text in enumerate(texts)
        ]
    )


async def translate(state: Piece, runtime: Runtime[Context]) -> Translated:
    context = runtime.context or Context()
    raw = state["text"]
    if words := raw.strip():
        answer = await translate_text(
            words, state["language"], label=state["label"], prompt=context.prompt, model=context.model
        )
        before, _, after = raw.partition(words)
        raw = before + answer + after  # what stood between two pieces stands between their translations
    return {"parts": [Part(language=state["language"], index=state["index"], text=raw, error=None)]}


async def note_failure(state: Piece, error: NodeError) -> Command[Literal["collect"]]:
    if is_fatal(error.error):  # a refused key fails every branch alike: better said once
        raise error.error
    failure = f"{type(error.error).__name__}: {error.error}"
    part = Part(language=state["language"], index=state["index"], text="", error=failure)
    # Where every branch fails, LangGraph does not follow the edge of the node that failed.
    return Command(update=Translated(parts=[part]), goto="collect")


async def collect(state: State) -> Output:
    """A translation with a hole is none: one failed piece fails its language."""
    found: dict[str, list[Part]] = {language: [] for language in _told_once(state["languages"])}
    for part in sorted(state["parts"], key=operator.itemgetter("index")):
        found[part["language"]].append(part)
    translations = {}
    for language, parts in found.items():
        error = next((part["error"] for part in parts if part["error"]), None)
        text = None if error else "".join(part["text"] for part in parts).strip()
        translations[language] = Translation(text=text, error=error)
    return {"translations": translations}


def _cut(text: str, most_chars: int) -> list[str]:
    return list(cut_text(text, most_chars=most_chars))


def _told_once(languages: list[str]) -> list[str]:
    once: dict[str, str] = {}
    for language in languages:
        once.setdefault(language.casefold(), language)
    return list(once.values())


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
builder.add_node(split)
# LangGraph passes NodeError to error handlers, and its annotations do not know it yet.
builder.add_node("translate", translate, input_schema=Piece, error_handler=note_failure)  # pyright: ignore[reportArgumentType, reportCallIssue]
builder.add_node(collect)
builder.add_edge(START, "split")
builder.add_edge("translate", "collect")
builder.add_edge("collect", END)
graph = builder.compile(name="translate")
