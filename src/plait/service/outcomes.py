"""What a run's end means for whoever waits for its answer over plain HTTP."""

from __future__ import annotations

from collections.abc import Callable

from plait.errors import PlaitError
from plait.service.problems import answered, problem
from plait.service.running.requests import Outcome


def succeeded(outcome: Outcome | None, cause: PlaitError | None, clean: Callable[[str], str] = str) -> Outcome:
    """The outcome of a run that succeeded; `cause` is what made it fail, where that is known.

    Raises HTTPException for one that did not.
    """
    if outcome is None:
        raise problem(409, "the run was deleted before it ended")
    if outcome.interrupts:
        raise problem(409, "the workflow asks something before it goes on (interrupts)")
    if outcome.status == "success":
        return outcome
    if cause is not None:
        raise answered(cause, clean)
    if outcome.status == "timeout":
        raise problem(504, "the run took longer than a run may take")
    if outcome.status == "interrupted":
        raise problem(409, "the run was cancelled")
    error = outcome.error or {}
    raise problem(500, f"{error.get('error', 'the workflow failed')}: {error.get('message', 'no message')}")
