"""When a failed attempt is worth another, and how long to wait before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plait.flow.clock import Clock
from plait.flow.headers import retry_after_s

RETRYABLE_STATUSES = frozenset({408, 409, 429})
"""Besides every 5xx. Never 400, 401, 403, 404, 422: the same request would be refused again."""

_RETRYABLE_ERRORS = frozenset({"NetworkError", "TimeoutException", "RemoteProtocolError", "ProxyError", "ClientError"})
_CONNECT_ERRORS = frozenset(
    {"ConnectError", "ConnectTimeout", "ProxyError", "ClientConnectorError", "UnsupportedProtocol"}
)
_UNREACHED_ATTEMPTS = 3

UNREACHABLE = "unreachable"
"""The code of the error that foreign clients get where no connection could be made."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long one call is tried."""

    max_attempts: int = 8
    """The first included; refusals for a rate do not count, unless this is 1."""
    deadline_s: float = 600.0
    """Seconds from the first attempt after which no further one begins."""
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0


class Attempts:
    """Counts the attempts of one call and decides after each failure."""

    __slots__ = ("_clock", "_failures", "_policy", "_started", "asked_s", "count", "out_of_time")

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._started: float | None = None
        self._failures = 0
        self.count = 0
        self.out_of_time = False
        """Whether the deadline forbade another attempt."""
        self.asked_s = 0.0
        """The wait that was too long for it."""

    @property
    def spent_s(self) -> float:
        """Seconds since the first attempt began."""
        return 0.0 if self._started is None else self._clock.now() - self._started

    def begin(self) -> None:
        """Note that an attempt is sent now."""
        self.count += 1
        if self._started is None:
            self._started = self._clock.now()

    def wait_after_response(self, status: int, headers: Mapping[str, str], body: bytes) -> float | None:
        """Seconds to wait before the next attempt, or None when this answer is final."""
        if not _is_retryable(status, headers, body):
            return None
        asked_s = retry_after_s(headers, self._clock.wall())
        if status == 429 and self._policy.max_attempts > 1:
            # Waiting one's turn is no failure: the deadline bounds it. One attempt means one, though.
            return self._wait(asked_s)
        return self._fail(asked_s, self._policy.max_attempts)

    def wait_after_error(self, error: Exception, *, reached: bool) -> float | None:
        """Seconds to wait before the next attempt, or None when the error is final.

        An endpoint that never answered in this process (`reached` is False) is more likely misspelt than down: it
        gets few attempts, so that nobody waits a minute for a typing mistake.
        """
        if not is_retryable_error(error):
            return None
        most = self._policy.max_attempts
        return self._fail(None, most if reached else min(most, _UNREACHED_ATTEMPTS))

    def _fail(self, asked_s: float | None, max_attempts: int) -> float | None:
        self._failures += 1
        return None if self._failures >= max_attempts else self._wait(asked_s)

    def _wait(self, asked_s: float | None) -> float | None:
        if asked_s is None:
            # Exponential backoff with full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
            ceiling = self._policy.first_wait_s * 2.0 ** min(self.count - 1, 30)
            asked_s = self._clock.uniform(min(self._policy.longest_wait_s, ceiling))
        self.asked_s = asked_s
        self.out_of_time = self.spent_s + asked_s > self._policy.deadline_s
        return None if self.out_of_time else asked_s


def is_retryable_error(error: Exception) -> bool:
    """True for connection failures and timeouts of httpx, httpx2, aiohttp and the operating system."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    if isinstance(error, OSError | TimeoutError | EOFError):
        return True
    return any(kind.__name__ in _RETRYABLE_ERRORS for kind in type(error).__mro__)


def never_connected(error: BaseException) -> bool:
    """True for failures to connect, also as the cause of another error."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if any(kind.__name__ in _CONNECT_ERRORS for kind in type(link).__mro__):
            return True
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return False


def _is_retryable(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    # OpenAI's own word on it: https://github.com/openai/openai-python, _base_client.py, _should_retry
    asked = headers.get("x-should-retry")
    if asked in {"true", "false"}:
        return asked == "true"
    if b"insufficient_quota" in body:
        return False
    return status in RETRYABLE_STATUSES or status >= 500
