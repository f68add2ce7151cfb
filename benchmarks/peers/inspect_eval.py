"""inspect_ai as installed: `eval` of rows of calls, adaptive connections on, as is its default (10 to 100).

After a kill its log is retried with `eval_retry`, as its documentation says.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import inspect_ai  # type: ignore[import-not-found]  # installed in an environment of its own
from inspect_ai.dataset import Sample  # type: ignore[import-not-found]
from inspect_ai.log import list_eval_logs, read_eval_log  # type: ignore[import-not-found]
from inspect_ai.model import ChatMessageUser, get_model  # type: ignore[import-not-found]
from inspect_ai.solver import chain, generate, solver  # type: ignore[import-not-found]

from benchmarks.peers.contest import Course, Tally, take_part
from benchmarks.peers.warm_up import warm_up


@solver  # type: ignore[untyped-decorator]  # its types are in another environment
def ask(text: str):  # type: ignore[no-untyped-def]
    """Another question of the row."""

    async def solve(state, generate):  # type: ignore[no-untyped-def]
        state.messages = [ChatMessageUser(content=f"{state.input_text} {text}")]
        return state

    return solve


@inspect_ai.task  # type: ignore[untyped-decorator]
def stories(rows: int, calls: int, words: int):  # type: ignore[no-untyped-def]
    """All rows."""
    course = Course("", rows, 0, words)
    steps = [generate()]
    for part in range(1, calls):
        steps += [ask(f"Part {part}."), generate()]
    samples = [Sample(input=course.question(row), id=row) for row in range(rows)]
    return inspect_ai.Task(dataset=samples, solver=chain(steps))


def main(course: Course) -> Tally:
    """All rows; the setting `static` bounds connections at `in_flight` instead of adapting."""
    # A retry knows the model's name only; the rest is asked of the environment.
    os.environ |= {"SIMULATED_API_KEY": "none", "SIMULATED_BASE_URL": course.base_url}
    with tempfile.TemporaryDirectory() as elsewhere:
        folder = str(Path(course.folder) / "logs") if course.folder else elsewhere
        earlier = list_eval_logs(folder) if Path(folder).is_dir() else []
        most = {"max_connections": course.in_flight} if "static" in course.setting.split() else {}
        if earlier:
            (log,) = inspect_ai.eval_retry(read_eval_log(earlier[0]), display="none", log_dir=folder, **most)
        else:
            model = get_model("openai-api/simulated/m")
            given = {"rows": course.rows, "calls": course.calls, "words": course.words}
            (log,) = inspect_ai.eval(
                stories(**given), model=model, display="none", log_dir=folder, fail_on_error=False, **most
            )
        found = list(log.samples or [])  # read from the folder only now
    failed = Counter("error" if each.error else "no answer" for each in found if not each.output.choices)
    return Tally(len(found) - failed.total(), dict(failed))


if __name__ == "__main__":
    warm_up(main)
    take_part(main, ["inspect_ai", "openai"])
