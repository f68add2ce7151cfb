"""What an endpoint says about its limits, in the headers of its answers and in the words of its refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from plait.flow.header_values import (
    MILLISECONDS,
    amount,
    items,
    number,
    period,
    seconds,
    seconds_until_date,
    seconds_until_http_date,
)

Kind = Literal["requests", "tokens", "concurrency", "day", "overload", "unknown"]
"""What a refusal was about: a rate a minute, calls in flight, a day's quota, or the endpoint's own trouble."""

MINUTE_S, DAY_S = 60.0, 86_400.0
# A minute's limit is whole again after one. What takes longer, with some slack, is another window's or a wrong clock's.
_LATE_S = 2 * MINUTE_S


@dataclass(frozen=True, slots=True)
class Reading:
    """What one answer says of one limit; None for what it leaves out."""

    limit: float | None
    """Requests or tokens per `window_s`."""
    remaining: float | None
    """What is left of it now."""
    reset_s: float | None
    """Seconds until it is whole again."""
    window_s: float
    """60 or 86400."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What one answer says of all its endpoint's limits."""

    requests: Reading | None
    """A minute."""
    tokens: Reading | None
    requests_day: Reading | None
    tokens_day: Reading | None


def read_advice(headers: Mapping[str, str], wall: float) -> Advice | None:
    """The limits that these headers tell, or None when they tell none. Never raises: what makes no sense is left out.

    `headers` has case-insensitive or lower-case names; `wall` is the time of the answer in seconds since the epoch.
    Reads the dialects of OpenAI, Azure, Anthropic, Groq, Cerebras, SambaNova, Mistral, DigitalOcean and OpenRouter,
    and the IETF's draft-ietf-httpapi-ratelimit-headers in its versions up to 06 and from 08 on.
    """
    # One look at all names costs less than asking for each of three dozen.
    told = {
        name: text for key, text in headers.items() if "ratelimit" in (name := key.lower()) and isinstance(text, str)
    }
    if not told:
        return None
    found: dict[tuple[str, float], Reading] = {}
    for what, reading in _readings(told, wall, groq="x-groq-region" in headers):
        late = reading.window_s == MINUTE_S and (reading.reset_s or 0.0) > _LATE_S
        found.setdefault((what, reading.window_s), replace(reading, reset_s=None) if late else reading)
    if not found:
        return None
    return Advice(
        requests=found.get(("requests", MINUTE_S)),
        tokens=found.get(("tokens", MINUTE_S)),
        requests_day=found.get(("requests", DAY_S)),
        tokens_day=found.get(("tokens", DAY_S)),
    )


def retry_after_s(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds to wait before another attempt, as the endpoint asks, or None when it asks nothing. Never raises.

    From `retry-after-ms` (OpenAI, Azure) or `retry-after` (RFC 9110, section 10.2.3: seconds or a date, 0 for one in
    the past); else, where nothing remains, from the reset of OpenRouter's or the IETF draft's window. The other
    dialects' resets say when all is whole again, long after one more call may pass.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        asked = number(headers.get(name))
        if asked is not None and (asked_s := period(asked * unit_s)) is not None:
            return asked_s
    text = headers.get("retry-after")
    if text is not None:
        return seconds_until_http_date(text, wall)
    if number(headers.get("ratelimit-remaining")) == 0:
        return seconds(headers.get("ratelimit-reset"), wall)
    reset = headers.get("x-ratelimit-reset")
    if number(headers.get("x-ratelimit-remaining")) == 0 and (number(reset) or 0.0) > MILLISECONDS:
        return seconds(reset, wall)
    return None


_OVERLOAD = re.compile(rb"overload|high demand|at capacity|over capacity|exhausted capacity|server_busy")
_CONCURRENCY = re.compile(rb"concurren|simultaneous|parallel requests|in parallel")
_DAY = re.compile(rb"per[ -_]?day|\bdaily\b|daily_|\b[rt]pd\b")
# Whichever is said first: OpenAI writes "tokens per min (TPM): Limit 40000, Requested 500", Anthropic "number of
# request tokens has exceeded your per-minute rate limit", Azure "token rate limit" and "call rate limit", Bedrock "too
# many tokens" and "too many requests, please wait", Google quota ids like GenerateContentInputTokensPerModelPerMinute
# and free_tier_input_token_count, Mistral "requests rate limit". "Too many requests" alone is only HTTP's name of 429.
_WHAT = re.compile(
    rb"(?P<tokens>tokens? ?per|tokensper|tokens?[ _-](?:rate|limit|count)|too many tokens|\btpm\b|\"type\": ?\"tokens\""
    rb"|number of (?:\w+ )?tokens|(?:input|output|prompt|completion)[ _-]tokens?)"
    rb"|(?P<requests>requests? ?per|requests?[ _-](?:rate|limit)|call rate|number of requests|\brp[ms]\b"
    rb"|\"type\": ?\"requests\"|too many requests, please wait|tier_requests)"
)


def why_refused(status: int, headers: Mapping[str, str], body: bytes) -> Kind:
    """What an answer of 4xx or 5xx was refused for, by the words of its body, else by what its headers say is spent.

    Reads the first 4 kB only. Never raises.
    """
    words = bytes(body[:4096]).lower()
    if status in {503, 529} or _OVERLOAD.search(words):
        return "overload"
    if _CONCURRENCY.search(words):
        return "concurrency"
    if _DAY.search(words):
        return "day"
    if said := _WHAT.search(words):
        return "tokens" if said["tokens"] else "requests"
    advice = read_advice(headers, 0.0)
    if advice is None:
        return "unknown"
    spent: tuple[tuple[Kind, Reading | None], ...] = (
        ("day", advice.requests_day),
        ("day", advice.tokens_day),
        ("requests", advice.requests),
        ("tokens", advice.tokens),
    )
    for kind, reading in spent:
        if reading and reading.remaining == 0:
            return kind
    return "unknown"


# Cerebras (https://inference-docs.cerebras.ai/support/rate-limits) and SambaNova name the window at the end; Mistral
# says "req" (https://github.com/mistralai/client-ts/issues/169); DigitalOcean puts "per" between
# (https://docs.digitalocean.com/products/inference/reference/quota-specific-response-headers/). Hours and months
# exist too: they are neither a pace nor a day's quota, and are left to refusals.
_WINDOWED = [
    (what, f"-{name}-{window}", window_s)
    for what, name in (("requests", "requests"), ("requests", "req"), ("tokens", "tokens"))
    for window, window_s in (("minute", MINUTE_S), ("per-minute", MINUTE_S), ("day", DAY_S), ("per-day", DAY_S))
]


def _readings(told: Mapping[str, str], wall: float, *, groq: bool) -> Iterator[tuple[str, Reading]]:
    """What is said, the more exact names first."""
    names = " ".join(told)
    if "minute" in names or "day" in names:
        for what, name, window_s in _WINDOWED:
            if reading := _x_ratelimit(told, name, wall, window_s):
                yield what, reading
    if reading := _x_ratelimit(told, "-requests", wall, MINUTE_S):
        yield "requests", _by_day(reading) if groq or _is_daily(reading, told) else reading
    if reading := _x_ratelimit(told, "-tokens", wall, MINUTE_S):
        yield "tokens", reading
    # OpenRouter's, for a minute or a day, known by a reset in milliseconds since the epoch
    # (https://openrouter.ai/docs/api-reference/limits); elsewhere nobody says of what window they are.
    if (number(told.get("x-ratelimit-reset")) or 0.0) > MILLISECONDS:
        reading = _x_ratelimit(told, "", wall, MINUTE_S)
        if reading and reading.reset_s is not None:
            yield "requests", _by_day(reading) if reading.reset_s > _LATE_S else reading
    if "anthropic" in names:
        yield from _anthropic(told, wall)
    yield from _ietf(told, wall)


def _x_ratelimit(told: Mapping[str, str], name: str, wall: float, window_s: float) -> Reading | None:
    return _reading(
        amount(told.get(f"x-ratelimit-limit{name}")),
        amount(told.get(f"x-ratelimit-remaining{name}")),
        seconds(told.get(f"x-ratelimit-reset{name}"), wall),
        window_s,
    )


def _reading(limit: float | None, remaining: float | None, reset_s: float | None, window_s: float) -> Reading | None:
    # Nothing is allowed, and yet this was answered: zero stands for "no limit" there.
    if limit == 0 or (limit is None and remaining is None):
        return None
    if limit is not None and remaining is not None:
        remaining = min(limit, remaining)
    return Reading(limit, remaining, reset_s, window_s)


def _by_day(reading: Reading) -> Reading:
    return replace(reading, window_s=DAY_S)


def _is_daily(reading: Reading, told: Mapping[str, str]) -> bool:
    """Whether requests without a window in their name are counted by day.

    Groq's always are (https://console.groq.com/docs/rate-limits), OpenAI's where an account has a daily limit. Both
    give the time until the limit is whole again as "7m12s", and both refill steadily, so what is missing and the time
    to refill it tell the window: 1 of 200 in 432 s is 200 a day. Counters that start afresh each minute say seconds.
    """
    if reading.limit is None or reading.remaining is None or reading.reset_s is None:
        return False
    if reading.remaining == reading.limit or told["x-ratelimit-reset-requests"].strip()[-1:] not in "smhd":
        return False
    if reading.reset_s > _LATE_S:
        return True
    return DAY_S / 2 < reading.reset_s * reading.limit / (reading.limit - reading.remaining) < DAY_S * 2


def _anthropic(told: Mapping[str, str], wall: float) -> Iterator[tuple[str, Reading]]:
    """https://platform.claude.com/docs/en/api/rate-limits#response-headers"""

    def read(name: str) -> Reading | None:
        start = f"anthropic-ratelimit-{name}-"
        reset_s = seconds_until_date(told.get(f"{start}reset"), wall)
        return _reading(amount(told.get(f"{start}limit")), amount(told.get(f"{start}remaining")), reset_s, MINUTE_S)

    if requests := read("requests"):
        yield "requests", requests
    tokens = read("tokens")
    if tokens is None:
        # Input and output have limits of their own, and one number is kept here: their sum, as the endpoint itself
        # sums them in the plain headers. When either runs dry nothing more is admitted, so what remains is then zero.
        read_in, out = read("input-tokens"), read("output-tokens")
        tokens = _sum(read_in, out) if read_in and out else None
    if tokens:
        yield "tokens", tokens


def _sum(one: Reading, other: Reading) -> Reading | None:
    def added(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a + b

    dry = [part for part in (one, other) if part.remaining == 0]
    remaining = 0.0 if dry else added(one.remaining, other.remaining)
    resets_s = [part.reset_s for part in (dry or (one, other)) if part.reset_s is not None]
    return _reading(added(one.limit, other.limit), remaining, max(resets_s, default=None), MINUTE_S)


def _ietf(told: Mapping[str, str], wall: float) -> Iterator[tuple[str, Reading]]:
    """https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ of requests."""
    policies = [item for text in (told.get("ratelimit-policy"), told.get("ratelimit-limit")) for item in items(text)]
    # From version 08: RateLimit-Policy: "day";q=1000;w=86400 and RateLimit: "day";r=12;t=3000, the quota unit requests.
    named = {name: fields for name, fields in policies if "q" in fields}
    for name, state in items(told.get("ratelimit")):
        policy = named.get(name, {})
        if policy.get("qu", "requests").strip('"') == "requests":
            yield from _paced(
                amount(policy.get("q")), amount(state.get("r")), amount(state.get("t")), amount(policy.get("w"))
            )
    # Up to version 06: RateLimit-Limit: 100, 100;w=60 (the window there or in RateLimit-Policy), -Remaining, -Reset.
    limit = next((most for name, _ in items(told.get("ratelimit-limit")) if (most := amount(name)) is not None), None)
    window_s = next((w for name, f in policies if amount(name) == limit and (w := amount(f.get("w")))), None)
    reset_s = seconds(told.get("ratelimit-reset"), wall)
    # Without a word on the window: one of a few seconds would be over sooner.
    if window_s is None and reset_s is not None and 10 < reset_s <= MINUTE_S:
        window_s = MINUTE_S
    yield from _paced(limit, amount(told.get("ratelimit-remaining")), reset_s, window_s)


def _paced(
    limit: float | None, remaining: float | None, reset_s: float | None, window_s: float | None
) -> Iterator[tuple[str, Reading]]:
    """A reading where the window is known; of less than a minute, scaled to one, which is the same pace."""
    if window_s is not None and (window_s == DAY_S or 1 <= window_s <= MINUTE_S):
        whole_s = max(MINUTE_S, window_s)
        reading = _reading(limit and limit * whole_s / window_s, remaining, reset_s, whole_s)
        if reading:
            yield "requests", reading
