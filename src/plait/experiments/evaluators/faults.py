"""What an evaluator's error means: for this run alone or for every one, and in words that may be stored."""

from __future__ import annotations

from plait.batches.rows import known_keys
from plait.errors import CallCancelled, PlaitError
from plait.failures import is_fatal, is_outage, links_of
from plait.flow.scopes import current_scope
from plait.masking import masked, redacted

__all__ = ["failed_calls", "shown", "stops_all", "text_of"]

_SDKS = frozenset({"anthropic", "openai"})
_LONGEST = 2000


def failed_calls() -> int:
    """How many model calls have failed so far in the scope around this code."""
    scope = current_scope()
    return scope.usage.failed_calls if scope else 0


def stops_all(error: BaseException, before: int) -> bool:
    """Whether an evaluator's error would meet every run alike, or says that its run is over.

    `before` is what `failed_calls` was when it began; the scope of its calls is still the current one. A refusal (404,
    no connection) of another service than a model's, such as the page of a link that is checked, says nothing of the
    next run.
    """
    if isinstance(error, CallCancelled):
        return True
    try:
        if not (is_fatal(error) or is_outage(error)):
            return False
    except Exception:  # noqa: BLE001  (an exception of any make, whose own text or status may raise)
        return False
    if failed_calls() > before:
        return True
    return any(isinstance(link, PlaitError | ImportError) or _of_sdk(link) for link in links_of(error))


def _of_sdk(error: BaseException) -> bool:
    """Of a model's client, also of one that is not ours and whose calls nobody counts."""
    return any(kind.__module__.partition(".")[0] in _SDKS for kind in type(error).__mro__)


def text_of(error: BaseException) -> str:
    """What the error says."""
    try:
        return str(error).strip() or "no message"
    except Exception as failure:  # noqa: BLE001  (a foreign exception's own __str__)
        return f"no message: its text raises {type(failure).__name__}"


def shown(message: str) -> str:
    """The message as it is stored: without keys, those of this scope's settings among them, and not too long."""
    scope = current_scope()
    text = redacted(masked(message), known_keys(scope.settings) if scope else ())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
