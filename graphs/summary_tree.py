"""Reduces summaries to one as a tree: groups that fit into one question, level by level, each level at once.

A part of the summarize workflow, for one document's pieces and for all documents.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Overwrite, Send

from chains.answers import room_of
from chains.combine_summaries import combine_summaries
from graphs.summary_context import Context


class Input(TypedDict):
    summaries: list[str]
    label: str
    words: int
    """About how long the last summary is."""


class Output(TypedDict):
    summary: str


class State(Input, Output):
    level: int
    combined: Annotated[list[tuple[int, str]], operator.add]
    """The summaries of this level by the index of their group."""


class Group(TypedDict):
    index: int
    summaries: list[str]
    label: str
    words: int


class Combined(TypedDict):
    combined: list[tuple[int, str]]


def group_summaries(summaries: Sequence[str], *, most_chars: int) -> list[list[str]]:
    """Neighbours that fit into `most_chars` together; at least two a group, else a level would not be shorter."""
    groups: list[list[str]] = []
    room = 0
    for summary in summaries:
        room -= len(summary)
        if not groups or (room < 0 and len(groups[-1]) > 1):
            groups.append([])
            room = most_chars - len(summary)
        groups[-1].append(summary)
    return groups


async def plan(state: State, runtime: Runtime[Context]) -> Command[Literal["combine", "finish"]]:
    context = runtime.context or Context()
    level = state.get("level", 0)
    summaries = [text for _, text in sorted(state["combined"])] if level else state["summaries"]
    most_chars = context.most_chars or room_of(context.model)
    groups = group_summaries(summaries, most_chars=most_chars)
    if len(groups) == 1:
        return Command(update={"summaries": summaries}, goto="finish")
    words = part_words(state["words"], most_chars)
    label = state["label"]
    sends = [
        Send("combine", Group(index=index, summaries=group, label=f"{label} ({level + 1}.{index + 1})", words=words))
        for index, group in enumerate(groups)
    ]
    return Command(update={"level": level + 1, "combined": Overwrite([])}, goto=sends)


async def combine(state: Group, runtime: Runtime[Context]) -> Combined:
    if len(state["summaries"]) == 1:  # the odd one out of its level goes up as it is
        return {"combined": [(state["index"], state["summaries"][0])]}
    context = runtime.context or Context()
    summary = await combine_summaries(
        state["summaries"],
        words=state["words"],
        label=state["label"],
        prompt=context.combine_prompt,
        model=context.model,
    )
    return {"combined": [(state["index"], summary)]}


async def finish(state: State, runtime: Runtime[Context]) -> Output:
    context = runtime.context or Context()
    summary = await combine_summaries(
        state["summaries"],
        words=state["words"],
        label=state["label"],
        prompt=context.combine_prompt,
        model=context.model,
    )
    return {"summary": summary}


def part_words(words: int, most_chars: int) -> int:
    """How long a summary on the way is: never longer than the last one, and a dozen fit into a question."""
    return min(words, max(10, most_chars // 72))


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
builder.add_node(plan)
builder.add_node("combine", combine, input_schema=Group)
builder.add_node(finish)
builder.add_edge(START, "plan")
builder.add_edge("combine", "plan")
builder.add_edge("finish", END)
tree = builder.compile(name="summary_tree")
