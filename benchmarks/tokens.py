"""CPU of a streamed token: the bare SDK's stream, LangChain's, LangGraph's, and plait's run of the same graph.

Each is a process of its own (`python -m benchmarks.tokens NAME BASE_URL`): peers on asyncio's loop, as their
documentation shows them, plait as its command line runs it. One token comes every 2 ms, so each is read alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

from benchmarks.measure import interleave, print_ratios
from benchmarks.records import ROOT
from benchmarks.service_provider import streaming_provider

TOKENS, GAP_S = 500, 0.002
STREAMS = 4
"""At once; more would wait for each other, and be read together."""
TIMES = 2
ROUNDS = 4
PEER, OURS = "AsyncOpenAI stream", "plait.runs.stream of the graph"
SUBJECTS = {
    PEER: "sdk",
    "AsyncOpenAI stream on uvloop": "sdk-uvloop",
    "ChatOpenAI.astream": "chat",
    "LangGraph astream, messages": "graph",
    OURS: "plait",
}
_KEY = "sk-benchmark"
_QUESTION = "Tell a story about a magical forest."
_PATIENCE_S = 120.0

Stream = Callable[[], Awaitable[int]]
"""One stream to its end; the tokens that were seen."""


def main() -> None:
    """Print microseconds a token, and ratios to the bare SDK."""
    with streaming_provider(tokens=TOKENS, gap_s=GAP_S) as base_url:

        def measured(name: str) -> Callable[[], float]:
            return lambda: _spent(name, base_url)

        found = interleave({name: measured(subject) for name, subject in SUBJECTS.items()}, rounds=ROUNDS)
    print(
        f"CPU of a token, streams of {TOKENS} tokens at {GAP_S * 1000:.0f} ms, {STREAMS} at once, {ROUNDS} rounds; ",
        end="",
    )
    print(f"load {os.getloadavg()[0]:.1f}")
    print_ratios(found, PEER, unit="us", scale=1e6)


def _spent(subject: str, base_url: str) -> float:
    kept = {each: value for each, value in os.environ.items() if each in {"PATH", "HOME", "LANG", "TMPDIR"}}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tokens", subject, base_url],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**kept, "LANGSMITH_TRACING": "false"},
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{subject} failed: {done.stderr.strip()[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


async def _cpu_of_a_token(stream: Stream) -> float:
    async def at_once() -> int:
        return sum(await asyncio.gather(*(stream() for _ in range(STREAMS))))

    await at_once()
    cpu, seen = time.process_time(), 0
    for _ in range(TIMES):
        seen += await at_once()
    cpu = time.process_time() - cpu
    assert seen == STREAMS * TIMES * TOKENS, f"{seen} tokens came"
    return cpu / seen


async def _sdk(base_url: str) -> float:
    import openai

    client = openai.AsyncOpenAI(base_url=base_url, api_key=_KEY)

    async def stream() -> int:
        chunks = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": _QUESTION}], stream=True
        )
        return sum([bool(chunk.choices and chunk.choices[0].delta.content) async for chunk in chunks])

    return await _cpu_of_a_token(stream)


async def _chat(base_url: str) -> float:
    from benchmarks.subjects import langchain_model

    model = langchain_model(base_url)

    async def stream() -> int:
        return sum([bool(chunk.text) async for chunk in model.astream(_QUESTION)])

    return await _cpu_of_a_token(stream)


async def _graph(base_url: str) -> float:
    from langchain_core.messages import AIMessageChunk

    from benchmarks.subjects import langchain_model, one_call_graph

    graph = one_call_graph(langchain_model(base_url))

    async def stream() -> int:
        seen = 0
        async for chunk, _ in graph.astream({"question": _QUESTION}, stream_mode="messages"):
            seen += isinstance(chunk, AIMessageChunk) and bool(chunk.text)
        return seen

    return await _cpu_of_a_token(stream)


async def _plait(base_url: str) -> float:
    from benchmarks.subjects import one_call_graph
    from plait import runs
    from plait.models import chat_model
    from plait.process import collect_less, own_process
    from plait.settings import from_env

    with tempfile.TemporaryDirectory() as home:
        settings = from_env({"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": _KEY, "PLAIT_HOME": home})
        with own_process(settings):
            graph = one_call_graph(chat_model("openai:m", settings=settings))
            collect_less()

            async def stream() -> int:
                events = runs.stream(graph, {"question": _QUESTION}, settings=settings)
                return sum([event.type == "token" async for event in events])

            return await _cpu_of_a_token(stream)


def _one(name: str, base_url: str) -> float:
    if name in ("sdk", "chat", "graph"):
        return asyncio.run({"sdk": _sdk, "chat": _chat, "graph": _graph}[name](base_url))
    from plait.process import run_loop

    return run_loop({"sdk-uvloop": _sdk, "plait": _plait}[name](base_url))


if __name__ == "__main__":
    print(json.dumps(_one(*sys.argv[1:])))
