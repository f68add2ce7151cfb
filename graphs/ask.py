"""Answers several questions at once, each under its label, in the order they were asked."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from pydantic import Field, StringConstraints

from chains.answer_question import answer_question
from plait import is_fatal

Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Questions = Annotated[dict[str, Question], Field(min_length=1), "label -> question"]


class Answer(TypedDict):
    question: str
    answer: str | None
    error: str | None


class Input(TypedDict):
    questions: Questions


class Output(TypedDict):
    answers: dict[str, Answer]


class State(Input, Output):
    answered: Annotated[dict[str, Answer], operator.or_]


class Branch(TypedDict):
    label: str
    question: str


class Answered(TypedDict):
    answered: dict[str, Answer]


@dataclass(frozen=True)
class Context:
    model: str | None = None
    """`endpoint:model` for this workflow; else the run's."""
    prompt: str | None = None
    """Instructions instead of the chain's own."""


def fan_out(state: State) -> list[Send]:
    return [Send("answer", Branch(label=label, question=text)) for label, text in state["questions"].items()]


async def answer(state: Branch, runtime: Runtime[Context]) -> Answered:
    context = runtime.context or Context()
    text = await answer_question(state["question"], label=state["label"], prompt=context.prompt, model=context.model)
    return {"answered": {state["label"]: Answer(question=state["question"], answer=text, error=None)}}


async def note_failure(state: Branch, error: NodeError) -> Command[Literal["collect"]]:
    if is_fatal(error.error):
        raise error.error
    failed = Answer(question=state["question"], answer=None, error=f"{type(error.error).__name__}: {error.error}")
    # Without `goto` LangGraph ends the run here when every branch has failed.
    return Command(update={"answered": {state["label"]: failed}}, goto="collect")


async def collect(state: State) -> Output:
    return {"answers": {label: state["answered"][label] for label in state["questions"]}}


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
# LangGraph passes NodeError to error handlers, and its annotations do not know it yet.
builder.add_node("answer", answer, input_schema=Branch, error_handler=note_failure)  # pyright: ignore[reportArgumentType, reportCallIssue]
builder.add_node(collect)
builder.add_conditional_edges(START, fan_out, ["answer"])
builder.add_edge("answer", "collect")
builder.add_edge("collect", END)
graph = builder.compile(name="ask")
