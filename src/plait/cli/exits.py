"""Which failure ends the process with which exit code, and the message it leaves on stderr."""

from __future__ import annotations

import signal
import sys
import traceback

from plait.errors import (
    AppError,
    BatchBusy,
    BatchChanged,
    BatchNotFound,
    BatchPaused,
    BudgetReached,
    CallRefused,
    EndpointUnreachable,
    GaveUp,
    InputError,
    ModelUnavailable,
    PlaitError,
    QuotaReached,
    RunTimeout,
    SettingsError,
    WorkflowNotFound,
)
from plait.masking import masked

FAILED = 1
USAGE = 2
APP = 3
ENDPOINT = 4
PAUSED = 5
TIMEOUT = 124
BROKEN_PIPE = 128 + signal.SIGPIPE

# The first class that fits decides.
CODES: tuple[tuple[type[PlaitError], int], ...] = (
    (InputError, USAGE),
    (SettingsError, USAGE),
    (WorkflowNotFound, USAGE),
    (BatchNotFound, USAGE),
    (BatchBusy, USAGE),
    (BatchChanged, USAGE),
    (BudgetReached, USAGE),  # before anything was spent: there is no price to hold it against
    (AppError, APP),
    (ModelUnavailable, ENDPOINT),
    (CallRefused, ENDPOINT),
    (EndpointUnreachable, ENDPOINT),
    (QuotaReached, ENDPOINT),
    (GaveUp, ENDPOINT),
    (RunTimeout, TIMEOUT),
    (PlaitError, FAILED),
)

EPILOG = "\n".join(
    (
        "Exit codes:",
        "0  success",
        "1  a run or rows failed or stopped at an interrupt; a threshold or baseline missed; a problem found; no store",
        "2  wrong command line, input or settings, no model named, no such workflow or batch, or another runs it",
        "3  the app cannot be loaded: langgraph.json, a broken workflow",
        "4  the endpoint refuses or cannot be reached, a quota is used up, or the model is unavailable",
        "5  the batch paused with rows pending: budget, --deadline or --max-errors reached, no room, store or workers",
        "124  the run took longer than --timeout",
        "130  stopped by Ctrl-C (143: by SIGTERM; 141: the reader of our output went away)",
    )
)


def code_of(error: BaseException) -> int:
    """The exit code of a failure; of a paused batch that of its cause, where the cure lies outside the batch."""
    if isinstance(error, BatchPaused):
        cause = error.__cause__
        code = PAUSED if cause is None or isinstance(cause, BudgetReached) else code_of(cause)
        return code if code in {USAGE, APP, ENDPOINT} else PAUSED
    return next((code for kind, code in CODES if isinstance(error, kind)), FAILED)


def describe(error: BaseException) -> str:
    """What is said about a failure, without the `plait: ` in front."""
    text = str(error).strip()
    if isinstance(error, PlaitError | OSError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (unexpected; `plait --debug ...` shows where)"


def report(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what went wrong (with the traceback if `debug`), and return the exit code."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    say(describe(error))
    return code_of(error)


def say(text: str) -> None:
    """One message on stderr; further lines are indented below the first."""
    first, *others = masked(text).splitlines() or [""]
    sys.stderr.write("\n  ".join([f"plait: {first}", *(line.strip() for line in others)]) + "\n")
    sys.stderr.flush()
