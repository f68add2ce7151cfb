"""inspect_ai as installed: `eval` of a one-call task, adaptive connections on, as is its default (10 to 100)."""

from __future__ import annotations

import tempfile
from collections import Counter

import inspect_ai  # type: ignore[import-not-found]  # installed in an environment of its own
from inspect_ai.dataset import Sample  # type: ignore[import-not-found]
from inspect_ai.model import get_model  # type: ignore[import-not-found]
from inspect_ai.solver import generate  # type: ignore[import-not-found]

from benchmarks.peers.contest import Course, Tally, take_part


def main(course: Course) -> Tally:
    """All rows, as samples; the setting `static` bounds connections at `in_flight` instead of adapting."""
    samples = [Sample(input=course.question(row), id=row) for row in range(course.rows)]
    task = inspect_ai.Task(dataset=samples, solver=generate())
    model = get_model("openai-api/simulated/m", base_url=course.base_url, api_key="none")
    most = {"max_connections": course.in_flight} if course.setting == "static" else {}
    with tempfile.TemporaryDirectory() as folder:
        (log,) = inspect_ai.eval(task, model=model, display="none", log_dir=folder, fail_on_error=False, **most)
        found = list(log.samples or [])  # read from the folder only now
    failed = Counter("error" if each.error else "no answer" for each in found if not each.output.choices)
    return Tally(len(found) - failed.total(), dict(failed))


if __name__ == "__main__":
    take_part(main, ["inspect_ai", "openai"])
