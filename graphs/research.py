"""Researches a topic: a plan, a researcher per question at the same time, a report, a review, one revision at most."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired, TypedDict

from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from pydantic import Field, StringConstraints

from agents.researcher import research_question
from agents.search_tools import search_tools
from chains.plan_research import plan_research
from chains.review_report import review_report
from chains.search_documents import search_documents
from chains.write_report import Finding, write_report
from plait import PlaitError, is_fatal, require_tools
from plait.flow.scopes import current_settings

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Topic = Annotated[Text, "what the report is about"]
Questions = Annotated[int, Field(ge=1, le=8), "how many researchers work on it, each on one question (3)"]
Paths = Annotated[Text | Annotated[list[Text], Field(min_length=1)], "what they may search: a file, a folder or a list"]

APPROVED = "approved"


class NothingFound(PlaitError):
    """None of the researchers could answer: there is nothing to write a report from."""


class Input(TypedDict):
    topic: Topic
    questions: NotRequired[Questions]
    path: NotRequired[Paths]


class Output(TypedDict):
    report: str
    findings: list[Finding]
    review: str


class State(Input, Output):
    planned: list[str]
    found: Annotated[list[tuple[int, Finding]], operator.add]
    changes: list[str]


class Branch(TypedDict):
    index: int
    question: str
    path: str | list[str] | None


class Planned(TypedDict):
    planned: list[str]


class Found(TypedDict):
    found: list[tuple[int, Finding]]


class Written(TypedDict):
    report: str
    findings: list[Finding]


class Reviewed(TypedDict):
    review: str
    changes: list[str]


class Revised(TypedDict):
    report: str


class Unrevised(TypedDict):
    review: str


@dataclass(frozen=True)
class Context:
    model: str | None = None
    """`endpoint:model` for this workflow; else the run's. It must call tools."""
    plan_prompt: str | None = None
    """Instructions in place of chains.plan_research.PROMPT."""
    report_prompt: str | None = None
    """Instructions in place of chains.write_report.PROMPT."""
    review_prompt: str | None = None
    """Instructions in place of chains.review_report.PROMPT."""
    searxng_url: str | None = None
    """A SearXNG server whose settings allow the format json; without one the web is not searched."""


async def plan(state: State, runtime: Runtime[Context]) -> Planned:
    context = runtime.context or Context()
    require_tools(context.model)
    if path := state.get("path"):  # indexed now: an unreadable folder is said before anything is paid
        await search_documents(state["topic"], path, top_k=1)
    count = state.get("questions", 3)
    questions = await plan_research(state["topic"], questions=count, prompt=context.plan_prompt, model=context.model)
    return {"planned": questions}


def fan_out(state: State) -> list[Send]:
    return [
        Send("research", Branch(index=index, question=question, path=state.get("path")))
        for index, question in enumerate(state["planned"])
    ]


async def research(state: Branch, runtime: Runtime[Context]) -> Found:
    context = runtime.context or Context()
    tools = search_tools(state["path"], context.searxng_url or current_settings().searxng_url)
    answer, sources = await research_question(state["question"], tools, model=context.model)
    finding = Finding(question=state["question"], answer=answer, sources=sources, error=None)
    return {"found": [(state["index"], finding)]}


async def note_failure(state: Branch, error: NodeError) -> Command[Literal["write"]]:
    if is_fatal(error.error):
        raise error.error
    failed = Finding(question=state["question"], answer=None, sources=[], error=_words(error.error))
    # LangGraph follows the node's edge only for siblings that succeeded: were all to fail, the run would end here.
    return Command(update={"found": [(state["index"], failed)]}, goto="write")


async def write(state: State, runtime: Runtime[Context]) -> Written:
    context = runtime.context or Context()
    findings = [finding for _, finding in sorted(state["found"], key=operator.itemgetter(0))]
    if all(finding["answer"] is None for finding in findings):
        raise NothingFound(
            f"expected an answer from one of {len(findings)} researchers, found none; the first failed with "
            f"{findings[0]['error']}"
        )
    report = await write_report(state["topic"], findings, prompt=context.report_prompt, model=context.model)
    return {"report": report, "findings": findings}


async def review(state: State, runtime: Runtime[Context]) -> Reviewed:
    context = runtime.context or Context()
    verdict = await review_report(
        state["topic"], state["findings"], state["report"], prompt=context.review_prompt, model=context.model
    )
    if verdict.approved:
        return {"review": APPROVED, "changes": []}
    return {"review": "\n".join(["changes asked for and made:", *verdict.changes]), "changes": verdict.changes}


async def note_no_review(state: State, error: NodeError) -> Reviewed:
    if is_fatal(error.error):
        raise error.error
    return {"review": f"not reviewed: {_words(error.error)}", "changes": []}  # the report is paid, and stands


def revise_or_end(state: State) -> Literal["revise", "__end__"]:
    return "revise" if state["changes"] else "__end__"


async def revise(state: State, runtime: Runtime[Context]) -> Revised:
    context = runtime.context or Context()
    report = await write_report(
        state["topic"],
        state["findings"],
        draft=state["report"],
        changes=state["changes"],
        prompt=context.report_prompt,
        model=context.model,
    )
    return {"report": report}


async def note_no_revision(state: State, error: NodeError) -> Unrevised:
    if is_fatal(error.error):
        raise error.error
    return {"review": "\n".join([f"changes asked for, not made ({_words(error.error)}):", *state["changes"]])}


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


builder = StateGraph(State, Context, input_schema=Input, output_schema=Output)
builder.add_node(plan)
# LangGraph passes NodeError to error handlers, and its annotations do not know it yet.
builder.add_node("research", research, input_schema=Branch, error_handler=note_failure)  # pyright: ignore[reportArgumentType, reportCallIssue]
builder.add_node(write)
builder.add_node("review_report", review, error_handler=note_no_review)  # pyright: ignore[reportArgumentType, reportCallIssue]
builder.add_node(revise, error_handler=note_no_revision)  # pyright: ignore[reportArgumentType, reportCallIssue]
builder.add_edge(START, "plan")
builder.add_conditional_edges("plan", fan_out, ["research"])
builder.add_edge("research", "write")
builder.add_edge("write", "review_report")
builder.add_conditional_edges("review_report", revise_or_end)
builder.add_edge("revise", END)
graph = builder.compile(name="research")
