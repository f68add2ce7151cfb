"""All that can be set, in one frozen object; the environment is read here and nowhere else.

Precedence, lowest first: defaults, the `"plait"` section of langgraph.json, environment variables, command-line
options (`Settings.override`).
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plait.errors import SettingsError

OPENAI_BASE_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint that can be named in `--model NAME:MODEL`."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    api_key_env: str | None = None
    """The variable the key is read from; named in messages, so that nobody has to guess."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    """A PEM file with the certificate authorities to trust instead of the system's; relative to the working folder."""
    max_concurrency: int | None = None
    """Calls in flight at this endpoint, all its models together."""
    models: Mapping[str, int] = field(default_factory=dict)
    """Calls in flight by model name."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process runs with. Build it with `from_env`, change it with `override`."""

    model: str | None = None
    """`endpoint:model`, e.g. `openai:gpt-5.4-mini`. None: the embedded model, where a toy answer is acceptable."""
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    max_concurrency: int | None = None
    """Model calls in flight in this process."""
    max_attempts: int = 8
    """Attempts per model call, the first included."""
    deadline_s: float = 600.0
    """Seconds a model call may take with all its attempts and waits before it is given up."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 600.0
    """Seconds without a byte from the endpoint after which an attempt has failed."""
    home: Path = Path()
    """Where plait keeps what must not be lost."""
    cache: Path = Path()
    """Where plait keeps what can be fetched again."""
    searxng_url: str | None = None
    """A SearXNG server that speaks JSON, for workflows that search the web."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By URL scheme, with `all` and the exceptions under `no`: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""
    local_model_file: Path | None = None
    """A GGUF file to use instead of the embedded model's own weights."""

    def override(self, **changes: Any) -> Settings:
        """A copy with the given fields replaced; None leaves a field as it is.

        Raises SettingsError where a value is out of range.
        """
        changed = {name: value for name, value in changes.items() if value is not None}
        _check_ranges(changed, lambda name: f"--{name.replace('_', '-')}")
        return dataclasses.replace(self, **changed)


class _ModelSection(BaseModel):
    model_config = ConfigDict(extra="forbid")
    max_concurrency: int = Field(ge=1)


class _EndpointSection(BaseModel):
    model_config = ConfigDict(extra="forbid")
    base_url: str | None = None
    api_key_env: str | None = None
    headers: dict[str, str] = {}
    ca_file: Path | None = None
    max_concurrency: int | None = Field(default=None, ge=1)
    models: dict[str, _ModelSection] = {}


class _Section(BaseModel):
    """The `"plait"` section of langgraph.json."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    max_concurrency: int | None = Field(default=None, ge=1)
    max_attempts: int | None = Field(default=None, ge=1)
    deadline_s: float | None = Field(default=None, gt=0)
    connect_timeout_s: float | None = Field(default=None, gt=0)
    read_timeout_s: float | None = Field(default=None, gt=0)
    searxng_url: str | None = None
    endpoints: dict[str, _EndpointSection] = {}


_NUMBERS: dict[str, type[int] | type[float]] = {
    "max_concurrency": int,
    "max_attempts": int,
    "deadline_s": float,
    "connect_timeout_s": float,
    "read_timeout_s": float,
}


def from_env(
    environ: Mapping[str, str] | None = None,
    *,
    section: Mapping[str, Any] | None = None,
    fallback: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from the environment, over the `"plait"` section of the app, over the defaults.

    `fallback` holds variables for which the environment has no value: an app's own `env`.

    Reads PLAIT_MODEL, PLAIT_MAX_CONCURRENCY, PLAIT_MAX_ATTEMPTS, PLAIT_DEADLINE_S, PLAIT_CONNECT_TIMEOUT_S,
    PLAIT_READ_TIMEOUT_S, PLAIT_LOCAL_MODEL_FILE, PLAIT_SEARXNG_URL, PLAIT_HOME, OPENAI_BASE_URL,
    OPENAI_API_KEY, the XDG folders, the proxy variables and those that the endpoints name.

    Raises SettingsError, naming the variable or the path in the section.
    """
    env = {**(fallback or {}), **(os.environ if environ is None else environ)}
    parsed = _parse_section(section or {})
    values: dict[str, Any] = {
        name: value for name in ("model", *_NUMBERS) if (value := getattr(parsed, name)) is not None
    }
    if model := env.get("PLAIT_MODEL", "").strip():
        values["model"] = model
    values |= _numbers_from(env)
    if file := env.get("PLAIT_LOCAL_MODEL_FILE"):
        values["local_model_file"] = Path(file).expanduser()
    user = Path(env.get("HOME") or Path.home())
    state = Path(env.get("XDG_STATE_HOME") or user / ".local" / "state")
    cache = Path(env.get("XDG_CACHE_HOME") or user / ".cache")
    return Settings(
        home=Path(env.get("PLAIT_HOME") or state / "plait").expanduser(),
        cache=cache / "plait",
        proxies=_proxies(env),
        searxng_url=env.get("PLAIT_SEARXNG_URL") or parsed.searxng_url,
        endpoints=_endpoints(parsed.endpoints, env),
        **values,
    )


def _parse_section(section: Mapping[str, Any]) -> _Section:
    try:
        return _Section.model_validate(section)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            path = ".".join(str(part) for part in ("plait", *problem["loc"]))
            if problem["type"] == "extra_forbidden":
                known = _EndpointSection if "endpoints" in problem["loc"] else _Section
                near = difflib.get_close_matches(str(problem["loc"][-1]), known.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known.model_fields)}"
                lines.append(f"{path}: no such setting; {hint}")
            else:
                lines.append(f"{path}: {problem['msg'].lower()}, found {problem['input']!r}")
        raise SettingsError("langgraph.json: " + "\n".join(lines)) from None


def _numbers_from(env: Mapping[str, str]) -> dict[str, int | float]:
    found: dict[str, int | float] = {}
    for name, kind in _NUMBERS.items():
        variable = f"PLAIT_{name.upper()}"
        text = env.get(variable, "").strip()
        if not text:
            continue
        try:
            found[name] = kind(text)
        except ValueError:
            raise SettingsError(
                f"{variable}: expected {'a whole number' if kind is int else 'seconds'}, found {text!r}"
            ) from None
    _check_ranges(found, lambda name: f"PLAIT_{name.upper()}")
    return found


def _check_ranges(values: Mapping[str, Any], called: Callable[[str], str]) -> None:
    for name, kind in _NUMBERS.items():
        value = values.get(name)
        if value is None:
            continue
        if kind is int and value < 1:
            raise SettingsError(f"{called(name)}: expected 1 or more, found {value}")
        if not 0 < value < float("inf"):
            raise SettingsError(f"{called(name)}: expected a number above 0, found {value}")


def _proxies(env: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for scheme in ("http", "https", "all", "no"):
        # Lower case wins, as in curl; a server reads HTTP_PROXY in upper case from a request header (httpoxy).
        value = env.get(f"{scheme}_proxy") or ("" if "REQUEST_METHOD" in env else env.get(f"{scheme.upper()}_PROXY"))
        if value:
            found[scheme] = value
    return found if found.keys() - {"no"} else {}


def _endpoints(sections: Mapping[str, _EndpointSection], env: Mapping[str, str]) -> dict[str, Endpoint]:
    openai = sections.get("openai", _EndpointSection())
    named = dict(sections)
    named["openai"] = openai.model_copy(
        update={
            "base_url": env.get("OPENAI_BASE_URL") or openai.base_url or OPENAI_BASE_URL,
            "api_key_env": openai.api_key_env or "OPENAI_API_KEY",
        }
    )
    return {name: _endpoint(name, section, env) for name, section in named.items()}


def _endpoint(name: str, section: _EndpointSection, env: Mapping[str, str]) -> Endpoint:
    where = f"plait.endpoints.{name}.base_url"
    # The embedded model's server picks its own free port, so "local" can carry limits only.
    if section.base_url is None and name != "local":
        raise SettingsError(f"langgraph.json: {where}: expected the endpoint's URL, found none")
    base_url = (section.base_url or "").rstrip("/")
    if base_url and (urlsplit(base_url).scheme not in {"http", "https"} or not urlsplit(base_url).netloc):
        found = "OPENAI_BASE_URL" if name == "openai" else where
        raise SettingsError(f"{found}: expected a URL such as http://127.0.0.1:8000/v1, found {base_url!r}")
    if section.ca_file is not None and not section.ca_file.is_file():
        raise SettingsError(
            f"langgraph.json: plait.endpoints.{name}.ca_file: expected a PEM file, found none at {section.ca_file}"
        )
    return Endpoint(
        base_url=base_url,
        api_key=env.get(section.api_key_env) if section.api_key_env else None,
        api_key_env=section.api_key_env,
        headers=section.headers,
        ca_file=section.ca_file,
        max_concurrency=section.max_concurrency,
        models={model: limit.max_concurrency for model, limit in section.models.items()},
    )
