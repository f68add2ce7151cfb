"""How a simulated provider treats its clients: every knob, in one frozen object."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from types import MappingProxyType
from typing import Any, Literal, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from plait.errors import SettingsError

OverLimit = Literal["refuse", "queue"]
RetryAfter = Literal["seconds", "date", "none"]
Dialect = Literal["openai", "azure", "anthropic", "none"]
LatencyLaw = Literal["fixed", "lognormal", "load"]
Charge = Literal["used", "reserved"]
FaultKind = Literal[
    "429", "429-silent", "500", "502", "503", "529", "reset", "cut", "truncate", "stall", "drip", "content-type"
]


@dataclass(frozen=True, slots=True)
class Profile:
    """By default there is no limit, no fault, and every answer comes at once. Raises SettingsError for a bad value."""

    rpm: float | None = None
    """Requests a minute, as a token bucket that refills evenly: a request is refused where less than one is left."""
    burst: float | None = None
    """Requests that a rested bucket holds. Default: two seconds' worth, at least 1."""
    tpm: float | None = None
    """Tokens a minute. As providers count before they answer, a request is charged at admission; see `charge`."""
    token_burst: float | None = None
    """Tokens that a rested bucket holds. Default: a minute's worth. A request that needs more is refused for ever."""
    charge: Charge = "used"
    """used: prompt and answer as they will be; reserved: prompt and `max_tokens`, where given, as OpenAI and Azure."""
    rpd: int | None = None
    """Requests a day."""
    tpd: int | None = None
    """Tokens a day."""
    reset_zone: str = "UTC"
    """The time zone in which days begin, e.g. America/Los_Angeles."""
    max_concurrency: int | None = None
    over_limit: OverLimit = "refuse"
    """What happens to requests above `max_concurrency`: 429, or they wait in order of arrival."""
    headers: Dialect = "openai"
    """Whose rate-limit headers are sent (those of limits that are set)."""
    retry_after: RetryAfter = "seconds"
    """In which form a 429 says when to come back."""
    vague: bool = False
    """A 429 does not say which limit was reached, so that clients must infer it."""
    latency_s: float = 0.0
    """From a request to the headers of its answer."""
    latency_law: LatencyLaw = "fixed"
    """lognormal: `latency_s` is the median; load: latency_s * (1 + in flight / load_capacity)."""
    sigma: float = 0.5
    """Of the lognormal law's logarithm."""
    load_capacity: float = 100.0
    """Requests in flight that double the latency under the law `load`."""
    ttft_s: float = 0.0
    """From the headers of a stream to its first token; a plain answer takes this and all gaps before its headers."""
    gap_s: float = 0.0
    """Between two tokens."""
    cache_ttl_s: float | None = None
    """How long a prompt's beginning stays cached after its last use. None: no prompt cache."""
    cache_min_tokens: int = 1024
    """The shortest beginning that is cached."""
    cache_block: int = 128
    """Cached beginnings are multiples of this many tokens."""
    faults: Mapping[FaultKind, float] = field(default_factory=dict)
    """The probability of each kind; kinds are explained in `plait.simulator.faults`."""
    drip_s: float = 1.0
    """Seconds between the pieces of an answer that has the fault `drip`."""
    seed: int = 0
    """Chance is a function of the seed, a request's body and how often that body came: order of arrival is no part."""
    require_key: str | None = None
    """The only key that is accepted. None: all, also none."""
    models: tuple[str, ...] | None = None
    """Names that exist. None: every name does."""

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "cache_ttl_s", "load_capacity"):
            _number(name, getattr(self, name), above=0)
        for name in ("burst", "token_burst"):
            _number(name, getattr(self, name), least=1)
        for name in ("latency_s", "sigma", "ttft_s", "gap_s", "drip_s"):
            _number(name, getattr(self, name), least=0)
        for name in ("rpd", "tpd", "max_concurrency", "cache_min_tokens", "cache_block"):
            _number(name, getattr(self, name), least=1, whole=True)
        _number("seed", self.seed, whole=True)
        _one_of("over_limit", self.over_limit, OverLimit)
        _one_of("retry_after", self.retry_after, RetryAfter)
        _one_of("headers", self.headers, Dialect)
        _one_of("latency_law", self.latency_law, LatencyLaw)
        _one_of("charge", self.charge, Charge)
        if not isinstance(self.vague, bool):
            raise SettingsError(f"vague: expected true or false, found {self.vague!r}")
        zone(self.reset_zone)
        _check_faults(self.faults)
        object.__setattr__(self, "faults", MappingProxyType(dict(self.faults)))
        if self.models is not None:
            object.__setattr__(self, "models", _names(self.models))
        if not isinstance(self.require_key, str | None):
            raise SettingsError("require_key: expected text")

    def but(self, **changes: Any) -> Profile:
        """A copy with the given fields replaced. Raises SettingsError for a bad value or an unknown name."""
        known = [each.name for each in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise SettingsError(f"the simulator has no setting {name!r}; it has {', '.join(known)}")
        return dataclasses.replace(self, **changes)


def _number(
    name: str, value: object, *, above: float | None = None, least: float | None = None, whole: bool = False
) -> None:
    if value is None:
        return
    bound = f" above {above:g}" if above is not None else "" if least is None else f" of {least:g} or more"
    kind = "a whole number" if whole else "a number"
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if right:
        found = cast("float", value)
        right = math.isfinite(found) and (above is None or found > above) and (least is None or found >= least)
    if not right:
        raise SettingsError(f"{name}: expected {kind}{bound}, found {value!r}")


def _one_of(name: str, value: object, kinds: object) -> None:
    known = get_args(kinds)
    if value not in known:
        raise SettingsError(f"{name}: expected one of {', '.join(known)}, found {value!r}")


def zone(name: str) -> tzinfo:
    """The time zone of that name. Raises SettingsError where there is none."""
    if name == "UTC":
        return UTC  # without a file: profiles are made in event loops too
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise SettingsError(f"reset_zone: expected a time zone such as Europe/Paris, found {name!r}") from None


def _check_faults(faults: object) -> None:
    if not isinstance(faults, Mapping):
        raise SettingsError(f"faults: expected kinds with their probabilities, found {faults!r}")
    for kind, chance in faults.items():
        _one_of("faults", kind, FaultKind)
        _number(f"faults: {kind}", chance, least=0)
    if sum(faults.values()) > 1 + 1e-9:
        raise SettingsError(f"faults: expected probabilities that sum up to 1 at most, found {sum(faults.values()):g}")


def _names(found: object) -> tuple[str, ...]:
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise SettingsError(f"models: expected a list of names, found {found!r}")
    return tuple(found)
