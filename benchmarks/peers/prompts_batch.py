"""async-batch-llm's `process_prompts` with the store of results that its documentation shows.

A refusal pauses it for a second; its default is 300.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import openai
from async_batch_llm import (  # type: ignore[import-not-found]  # installed in an environment of its own
    ArtifactIdentity,
    CallableStrategy,
    CallOutcome,
    JsonlArtifactStore,
    ProcessorConfig,
    RateLimitConfig,
    ResumePolicy,
    llm,
    process_prompts,
)

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import RUNNER, warm_up


def main(course: Course) -> Tally:
    """All rows that its store does not have yet."""
    return RUNNER.run(_rows(course))


async def _rows(course: Course) -> Tally:
    identity = ArtifactIdentity(provider="simulated", model="m", prompt_version="1", application_version="1")
    with tempfile.TemporaryDirectory() as elsewhere:
        store = JsonlArtifactStore(Path(course.folder or elsewhere) / "results.jsonl", identity=identity, fsync=True)
        found = await process_prompts(
            _strategy(course, identity),
            [(str(row), str(row) if course.calls > 1 else course.question(row)) for row in range(course.rows)],
            config=ProcessorConfig(concurrency=course.in_flight, rate_limit=RateLimitConfig(cooldown_seconds=1.0)),
            artifact_store=store,
            resume=ResumePolicy.REUSE_SUCCESSES,
        )
    failed = Counter(str(each.error).partition(":")[0][:60] for each in found.results if not each.success)
    return Tally(found.succeeded, dict(failed))


def _strategy(course: Course, identity: object) -> object:
    """Its own for a single call, the one for functions where a row makes several."""
    if course.calls == 1:
        return llm("openai-compatible:m", base_url=course.base_url, api_key="none")
    client = openai.AsyncOpenAI(base_url=course.base_url, api_key="none")

    async def invoke(prompt: str, *, attempt: int, timeout: float, state: object) -> object:
        answer = ""
        for part in range(course.calls):
            asked = course.question(int(prompt), part)
            found = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": asked}])
            answer = found.choices[0].message.content or ""
        return CallOutcome(answer)

    return CallableStrategy(invoke, identity=identity)


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["async-batch-llm", "openai"])
