"""How much of what a provider's prompt cache could serve it does serve, when a limit holds a batch back.

A row asks five questions about a document of its own, each prompt beginning with all of the one before. The simulator
keeps prompts for `_TTL_S`; a row that waits longer between two calls pays for its document again. The peer is
LangGraph's `abatch` over the same graph with LangChain's client and its retries.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph

import plait
from plait.models import chat_model
from plait.settings import from_env
from plait.simulator import Profile, Simulator, running

CALLS = 5
_ROWS = 400
_TTL_S = 2.5
_LATENCY_S = 0.05
_WORDS = 1500
_BLOCK = 128
_ANSWER = " ".join(["said"] * 30)

_FREE = Profile(latency_s=_LATENCY_S, cache_ttl_s=_TTL_S, cache_block=_BLOCK)
LIMITS: Mapping[str, Profile] = {
    "no limit": _FREE,
    "4,800 rpm, told by headers": _FREE.but(rpm=4800),
    "4,800 rpm, never told": _FREE.but(rpm=4800, headers="none", retry_after="none", vague=True),
    "8 million tpm, told by headers": _FREE.but(tpm=8_000_000, token_burst=400_000),
    "4 calls at once, refused": _FREE.but(max_concurrency=4, headers="none"),
    "4 calls at once, queued": _FREE.but(max_concurrency=4, over_limit="queue", headers="none"),
}


class State(TypedDict):
    """A conversation about one document."""

    messages: Annotated[list[AnyMessage], add_messages]


@dataclass(frozen=True, slots=True)
class Reuse:
    """What the server counted."""

    share: float
    """Of the tokens that each row's calls had in common with the call before."""
    wall_s: float
    requests: int


def conversation(model: BaseChatModel) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Five calls one after another, each with all that was said before."""
    builder = StateGraph(State)
    before = START
    for number in range(1, CALLS + 1):

        async def ask(state: State, *, number: int = number) -> dict[str, list[AnyMessage]]:
            asked = [] if number == 1 else [HumanMessage(f"Question {number}, please.")]
            return {"messages": [*asked, await model.ainvoke([*state["messages"], *asked])]}

        builder.add_node(f"ask{number}", ask)
        builder.add_edge(before, f"ask{number}")
        before = f"ask{number}"
    builder.add_edge(before, END)
    return builder.compile()


def rows(count: int) -> list[dict[str, object]]:
    """Documents that have nothing in common."""
    return [
        {"messages": [{"role": "user", "content": " ".join(f"word{row}" for _ in range(_WORDS))}]}
        for row in range(count)
    ]


async def plait_rows(simulator: Simulator, count: int) -> None:
    """All rows through `plait.batch`, nothing configured but the endpoint."""
    with tempfile.TemporaryDirectory() as home:
        env = {"OPENAI_BASE_URL": simulator.base_url, "OPENAI_API_KEY": "none", "PLAIT_HOME": home, "PLAIT_SHARE": "0"}
        settings = from_env(env)
        graph = conversation(chat_model("openai:m", settings=settings))
        async for row in plait.batch(graph, rows(count), settings=settings):
            assert row.status == "success", row.error


async def abatch_rows(simulator: Simulator, count: int) -> None:
    """All rows through `abatch` as it is called by default, which begins every row at once."""
    model = ChatOpenAI(model="m", base_url=simulator.base_url, api_key=lambda: "none", max_retries=30)
    found = await conversation(model).abatch(rows(count), return_exceptions=True)
    assert not any(isinstance(each, BaseException) for each in found), found


SUBJECTS = {"plait": plait_rows, "abatch": abatch_rows}


def measure(subject: str, profile: Profile, count: int = _ROWS) -> Reuse:
    """Run all rows in this process against a simulator in a thread."""
    with running(profile, answer=lambda _: _ANSWER, record=False) as simulator:
        began = time.monotonic()
        asyncio.run(SUBJECTS[subject](simulator, count))
        wall_s = time.monotonic() - began
        counters = simulator.counters
        return Reuse(counters.cached_tokens / cacheable(count), wall_s, counters.received)


def cacheable(count: int) -> int:
    """Tokens, in whole blocks, that a row's calls could take from the cache."""
    prompts = [_WORDS + number * (len(_ANSWER.split()) + 3) for number in range(CALLS - 1)]
    return sum(prompt // _BLOCK * _BLOCK for prompt in prompts) * count


def main(names: Sequence[str] = tuple(LIMITS)) -> None:
    """A line per limit: the share reused, and that as a part of the same subject's without any limit."""
    print(f"{_ROWS} rows of {CALLS} calls; prompts stay cached for {_TTL_S:g} s")
    unthrottled: float | None = None
    for subject in SUBJECTS:
        for name in names:
            found = measure(subject, LIMITS[name])
            unthrottled = unthrottled or found.share
            print(
                f"{subject:<7} {name:<34} reused {found.share:6.1%} of what could be, {found.share / unthrottled:.2f}x "
                f"plait's without limit; {found.wall_s:5.1f} s, {found.requests} requests"
            )


if __name__ == "__main__":
    main()
