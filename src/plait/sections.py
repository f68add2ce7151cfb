"""The `"plait"` section of langgraph.json as written there, and what its numbers may be wherever they come from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, StrictBool, ValidationError, ValidationInfo, field_validator

from plait.errors import SettingsError

BOUNDS: dict[str, type[int] | type[float]] = {
    "max_concurrency": int,
    "rpm": float,
    "tpm": float,
    "rpd": int,
    "tpd": int,
    "max_attempts": int,
    "deadline_s": float,
    "max_wait_s": float,
}
"""What can be set for the process, for an endpoint and for one of its models, and the kind of number it is."""

NUMBERS: dict[str, type[int] | type[float]] = {**BOUNDS, "connect_timeout_s": float, "read_timeout_s": float}


def number(name: str, value: object) -> int | float:
    """The number for a setting, from text or from JSON.

    Raises ValueError, saying what was expected and found and, where it helps, what to do.
    """
    kind = NUMBERS[name]
    seconds = name.endswith("_s")
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        found = kind(value)
        if not isinstance(value, str) and found != value and value == value:
            raise TypeError
    except (ValueError, TypeError, OverflowError):
        expected = "a whole number" if kind is int else "seconds" if seconds else "a number"
        raise ValueError(f"expected {expected}, found {value!r}") from None
    if seconds:
        # Not to wait at all is an answer too: fail at once.
        if name == "max_wait_s":
            if not 0 <= found < float("inf"):
                raise ValueError(f"expected 0 or more seconds, found {found}")
        elif not 0 < found < float("inf"):
            raise ValueError(f"expected a number above 0, found {found}")
    elif not 1 <= found < float("inf"):
        window, cure = {
            "rpm": (" a minute", "; for fewer use rpd" if 0 < found < 1 else ""),
            "tpm": (" a minute", "; for fewer use tpd" if 0 < found < 1 else ""),
        }.get(name, ("", ""))
        raise ValueError(f"expected 1 or more{window}, found {found}{cure}")
    return found


def time_zone(name: str) -> str:
    """The name of a time zone that this machine knows. Raises ValueError."""
    # UTC needs no database; slim containers have none.
    if name != "UTC":
        try:
            ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            raise ValueError(f"expected a time zone such as America/Los_Angeles, found {name!r}") from None
    return name


class BoundsSection(BaseModel):
    """The bounds of a model; an endpoint and the process have the same and more."""

    model_config = ConfigDict(extra="forbid")
    max_concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    rpd: int | None = None
    tpd: int | None = None
    max_attempts: int | None = None
    deadline_s: float | None = None
    max_wait_s: float | None = None

    @field_validator(*NUMBERS, mode="before", check_fields=False)
    @classmethod
    def _check_number(cls, value: object, info: ValidationInfo) -> object:
        return value if value is None else number(str(info.field_name), value)

    @field_validator("quota_timezone", check_fields=False)
    @classmethod
    def _check_time_zone(cls, value: str | None) -> str | None:
        return value if value is None else time_zone(value)


class EndpointSection(BoundsSection):
    """An endpoint in `"endpoints"`."""

    base_url: str | None = None
    api_key_env: str | None = None
    headers: dict[str, str] = {}
    ca_file: Path | None = None
    quota_timezone: str | None = None
    models: dict[str, BoundsSection] = {}


class Section(BoundsSection):
    """The whole section."""

    model: str | None = None
    connect_timeout_s: float | None = None
    read_timeout_s: float | None = None
    quota_timezone: str | None = None
    share: StrictBool | None = None
    searxng_url: str | None = None
    experiments: str | None = None
    prices: dict[str, Any] = {}
    """In dollars per 1,000,000 tokens, by model; plait.prices reads them."""
    endpoints: dict[str, EndpointSection] = {}


def parse_section(section: Mapping[str, Any]) -> Section:
    """The section, checked. Raises SettingsError with every path that is wrong and why."""
    try:
        return Section.model_validate(section)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            path = ".".join(str(part) for part in ("plait", *problem["loc"]))
            if problem["type"] == "extra_forbidden":
                # endpoints.NAME.models.MODEL.KEY, endpoints.NAME.KEY, KEY
                known = {5: BoundsSection, 3: EndpointSection}.get(len(problem["loc"]), Section)
                near = difflib.get_close_matches(str(problem["loc"][-1]), known.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known.model_fields)}"
                lines.append(f"{path}: no such setting; {hint}")
            elif problem["type"] == "value_error":
                lines.append(f"{path}: {problem.get('ctx', {}).get('error')}")
            else:
                lines.append(f"{path}: {problem['msg'].lower()}, found {problem['input']!r}")
        raise SettingsError("langgraph.json: " + "\n".join(lines)) from None
