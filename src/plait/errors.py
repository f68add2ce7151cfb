"""Every error plait raises by itself.

    PlaitError
    ├── SettingsError           a setting, option or variable has a value that cannot be used
    ├── InputError              a workflow's input is missing, mistyped or unreadable
    ├── AppError                an app cannot be loaded
    │   ├── WorkflowNotFound    no workflow has that name
    │   └── WorkflowBroken      a workflow's target is missing, raises at import or is no graph
    ├── ModelUnavailable        a model cannot be built: unknown name, missing package or weights
    ├── CallRefused             the endpoint refuses every call: wrong key, no access, unknown model
    ├── EndpointUnreachable     no answer from the endpoint after every attempt
    ├── QuotaReached            a day's quota is used up; it says when the next day begins
    ├── GaveUp                  an endpoint let no call through for as long as a call may take
    ├── CallCancelled           a model call was stopped because its run was
    ├── CallUnrecorded          a replay asked a model something that was not asked when it was recorded
    ├── BlockingCall            a synchronous call would have to wait on its own event loop's thread
    ├── RunTimeout              a run took longer than its timeout
    ├── StoreError              what plait keeps cannot be read or written: full disk, newer version, damage
    ├── BatchNotFound           no batch has that id
    ├── BatchBusy               another process is running that batch
    ├── BatchChanged            the workflow or the dataset is not what the batch began with
    ├── BatchPaused             a batch ended early; its rows stay pending and `plait resume` goes on
    ├── BudgetReached           a batch has spent what it may, or cannot know what a model costs
    └── RunFailed               a workflow raised; the original exception is its __cause__

Messages say what was expected, what was found and what to do next. The CLI turns them into one line and an exit
code, the service into a status code; nobody else knows either.
"""

from __future__ import annotations

from datetime import datetime

__all__ = [
    "AppError",
    "BatchBusy",
    "BatchChanged",
    "BatchNotFound",
    "BatchPaused",
    "BlockingCall",
    "BudgetReached",
    "CallCancelled",
    "CallRefused",
    "CallUnrecorded",
    "EndpointUnreachable",
    "GaveUp",
    "InputError",
    "ModelUnavailable",
    "PlaitError",
    "QuotaReached",
    "RunFailed",
    "RunTimeout",
    "SettingsError",
    "StoreError",
    "WorkflowBroken",
    "WorkflowNotFound",
]


class PlaitError(Exception):
    """Base of all errors raised by plait."""


class SettingsError(PlaitError):
    """A setting, option or environment variable has a value that cannot be used."""


class InputError(PlaitError):
    """A workflow's input is missing, mistyped or unreadable; the message has one line per field."""


class AppError(PlaitError):
    """An app (a langgraph.json and what it names) cannot be loaded."""


class WorkflowNotFound(AppError):
    """No workflow has that name; the message lists the nearest."""


class WorkflowBroken(AppError):
    """A workflow's target is missing, raises at import, or is no graph."""


class ModelUnavailable(PlaitError):
    """A model cannot be built: unknown name, missing package, missing key or weights."""


class CallRefused(PlaitError):
    """The endpoint refuses every such call (401, 403, unknown model, spent quota): waiting does not help."""


class EndpointUnreachable(PlaitError):
    """No usable answer came from the endpoint after every attempt."""


class QuotaReached(PlaitError):
    """A day's quota of an endpoint is used up. `resets_at` is a time in seconds since the epoch."""

    def __init__(self, endpoint: str, resets_at: float, wait_s: float, *, own: bool = False) -> None:
        at = datetime.fromtimestamp(resets_at).astimezone().strftime("%Y-%m-%d %H:%M %Z")
        if own:
            what, cure = f"your daily quota (rpd or tpd) for {endpoint} is used up", "raise it"
        else:
            what, cure = f"{endpoint} says that its daily quota is used up", "another key or model may have its own"
        super().__init__(f"{what}; it resets at {at}, in {_span(wait_s)} ({cure}, or let max_wait_s cover the wait)")
        self.resets_at = resets_at


class GaveUp(PlaitError):
    """An endpoint let no call through for `deadline_s`, or asks to wait longer than that. `cause` is what it limits."""

    def __init__(self, endpoint: str, cause: str, waited_s: float, asked_s: float) -> None:
        what = {"rpm": "requests per minute", "tpm": "tokens per minute", "quota": "a daily quota"}.get(cause, cause)
        asked = f", and the next would go out in {_span(asked_s)}" if asked_s > 0 else ""
        super().__init__(
            f"{endpoint} let no call through for {_span(waited_s)}: calls waited for {what}{asked}; "
            "`plait limits` shows what is known of it (deadline_s bounds the wait)"
        )
        self.cause = cause
        self.waited_s = waited_s


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class CallCancelled(PlaitError):
    """A model call was stopped because its run ended, timed out or was cancelled."""


class CallUnrecorded(PlaitError):
    """A run that may only replay paid answers made a model call that none of them answers."""


class BlockingCall(PlaitError):
    """A synchronous model call on an event loop's own thread would have to wait, which would block the loop."""


class RunTimeout(PlaitError):
    """A run took longer than its `timeout_s`."""


class RunFailed(PlaitError):
    """A workflow raised; `__cause__` is the original exception."""


class StoreError(PlaitError):
    """A store or journal cannot be read or written: full disk, no permission, a newer version, damage."""


class BatchNotFound(PlaitError):
    """No batch has that id; the message lists the nearest."""


class BatchBusy(PlaitError):
    """Another process is running that batch."""


class BatchChanged(PlaitError):
    """The workflow or the dataset differs from what the batch began with; the message says in what."""


class BudgetReached(PlaitError):
    """A batch has spent its budget of dollars or tokens, or a model has no price to hold a budget against."""


class BatchPaused(PlaitError):
    """A batch ended before its rows did; what is done is stored, `pending` rows wait. `__cause__` says why."""

    def __init__(self, batch_id: str, pending: int | None, cause: BaseException) -> None:
        left = "rows are" if pending is None else "1 row is" if pending == 1 else f"{pending:,} rows are"
        super().__init__(f"{cause}\n{left} pending and nothing is lost: plait resume {batch_id}")
        self.batch_id = batch_id
        self.pending = pending
        self.__cause__ = cause
