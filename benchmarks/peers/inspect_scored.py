"""inspect_ai's `eval` of one-call samples with one scorer, `max_connections` as asked, its log in a folder."""

from __future__ import annotations

import tempfile
from collections import Counter

import inspect_ai  # type: ignore[import-not-found]  # installed in an environment of its own
from inspect_ai.dataset import Sample  # type: ignore[import-not-found]
from inspect_ai.model import get_model  # type: ignore[import-not-found]
from inspect_ai.scorer import Score, accuracy, scorer  # type: ignore[import-not-found]
from inspect_ai.solver import generate  # type: ignore[import-not-found]

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import warm_up


@scorer(metrics=[accuracy()])
def answered():  # type: ignore[no-untyped-def]
    """Whether there is an answer."""

    async def score(state, target):  # type: ignore[no-untyped-def]
        return Score(value=len(state.output.completion) > 0)

    return score


def main(course: Course) -> Tally:
    """All examples."""
    samples = [Sample(input=course.question(row), id=row) for row in range(course.rows)]
    task = inspect_ai.Task(dataset=samples, solver=generate(), scorer=answered())
    model = get_model("openai-api/simulated/m", base_url=course.base_url, api_key="none")
    with tempfile.TemporaryDirectory() as folder:
        (log,) = inspect_ai.eval(
            task, model=model, display="none", log_dir=folder, fail_on_error=False, max_connections=course.in_flight
        )
        found = list(log.samples or [])  # read from the folder only now
    failed = Counter("error" if each.error else "not scored" for each in found if not each.scores)
    return Tally(len(found) - failed.total(), dict(failed))


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["inspect_ai", "openai"])
