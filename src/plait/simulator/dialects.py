"""What providers say about their limits: rate-limit headers, Retry-After, and the words of a 429."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import formatdate

from plait.simulator.meters import Meters, Refusal, Standing
from plait.simulator.profiles import Profile

_UNITS = {
    "rpm": ("requests per min (RPM)", "requests"),
    "tpm": ("tokens per min (TPM)", "tokens"),
    "rpd": ("requests per day (RPD)", "requests"),
    "tpd": ("tokens per day (TPD)", "tokens"),
}


def rate_headers(profile: Profile, meters: Meters, wall: float) -> dict[str, str]:
    """The headers of an answer, of the limits that are set.

    Sources: OpenAI's guide "Rate limits", Azure OpenAI's "Manage quota", Anthropic's "Rate limits".
    """
    found: dict[str, str] = {}
    if profile.headers == "none":
        return found
    for unit, standing in (("requests", meters.requests()), ("tokens", meters.tokens())):
        if standing is None:
            continue
        if profile.headers == "anthropic":
            found |= _anthropic(unit, standing, wall)
            continue
        found[f"x-ratelimit-remaining-{unit}"] = str(standing.remaining)
        if profile.headers == "openai":
            found[f"x-ratelimit-limit-{unit}"] = f"{standing.limit:.0f}"
            found[f"x-ratelimit-reset-{unit}"] = duration(standing.reset_s)
    return found


def _anthropic(unit: str, standing: Standing, wall: float) -> dict[str, str]:
    reset = datetime.fromtimestamp(math.ceil(wall + standing.reset_s), UTC)
    return {
        f"anthropic-ratelimit-{unit}-limit": f"{standing.limit:.0f}",
        f"anthropic-ratelimit-{unit}-remaining": str(standing.remaining),
        f"anthropic-ratelimit-{unit}-reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def retry_headers(profile: Profile, wait_s: float | None, wall: float) -> dict[str, str]:
    """Retry-After in whole seconds, rounded up, or as a date (RFC 9110, 10.2.3); Azure adds milliseconds."""
    if wait_s is None or profile.retry_after == "none":
        return {}
    seconds = math.ceil(wait_s)
    dated = profile.retry_after == "date"
    found = {"retry-after": formatdate(math.ceil(wall + wait_s), usegmt=True) if dated else str(seconds)}
    if profile.headers == "azure":
        found["retry-after-ms"] = str(math.ceil(wait_s * 1000))
    return found


def refusal_error(refusal: Refusal, model: str, *, vague: bool) -> dict[str, str | None]:
    """message, type and code of the error object, in OpenAI's words."""
    if vague:
        return {"message": "Rate limit reached", "type": "rate_limit_error", "code": "rate_limit_exceeded"}
    if refusal.limit == "concurrency":
        message = f"Too many concurrent requests: Limit {refusal.allowed:.0f}"
        return {"message": message, "type": "concurrency", "code": "rate_limit_exceeded"}
    words, kind = _UNITS[refusal.limit]
    place = f"for {model} in organization org-simulated on {words}: Limit {refusal.allowed:.0f}"
    if refusal.wait_s is None:
        message = f"Request too large {place}, Requested {refusal.requested:.0f}. It must be reduced to run."
    else:
        used = f"Used {refusal.used:.0f}, Requested {refusal.requested:.0f}"
        message = f"Rate limit reached {place}, {used}. Please try again in {duration(refusal.wait_s)}."
    return {"message": message, "type": kind, "code": "rate_limit_exceeded"}


def duration(seconds: float) -> str:
    """As OpenAI writes it, rounded up: 120ms, 1.7s, 6m0s, 23h59m1s."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(math.ceil(milliseconds / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
