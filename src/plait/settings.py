"""All that can be set, in one frozen object; the environment is read here and nowhere else.

Precedence, lowest first: defaults, the `"plait"` section of langgraph.json, environment variables, command-line
options (`Settings.override`).
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plait.errors import SettingsError
from plait.masking import is_spilt
from plait.sections import BOUNDS, NUMBERS, BoundsSection, EndpointSection, number, parse_section, time_zone

OPENAI_BASE_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the user allows at most at an endpoint or for one of its models; None where they set nothing.

    Each is a hard bound: what an endpoint says of its limits, and what is learnt from it, can only be stricter.
    """

    max_concurrency: int | None = None
    """Calls in flight."""
    rpm: float | None = None
    """Requests a minute, every attempt counted."""
    tpm: float | None = None
    """Tokens a minute, of prompts and answers together."""
    rpd: int | None = None
    """Requests a day."""
    tpd: int | None = None
    """Tokens a day."""
    max_attempts: int | None = None
    """Attempts per call, the first included."""
    deadline_s: float | None = None
    """Seconds a call may take with all its attempts and waits before it is given up."""
    max_wait_s: float | None = None
    """Seconds `run` and `serve` wait for a spent daily quota before they fail with its reset time."""


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
    bounds: Bounds = Bounds()
    """For all its models together."""
    models: Mapping[str, Bounds] = field(default_factory=dict)
    """For single models, by name; what holds for all of them holds besides."""
    quota_timezone: str = "UTC"
    """The time zone, by its IANA name, in which the day of `rpd` and `tpd` begins."""


_LANGSMITH = (
    "LANGSMITH_API_KEY",
    "LANGCHAIN_API_KEY",
    "LANGSMITH_ENDPOINT",
    "LANGCHAIN_ENDPOINT",
    "LANGSMITH_WORKSPACE_ID",
)


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
    max_wait_s: float = 60.0
    """Seconds `run` and `serve` wait for a spent daily quota before they fail with its reset time."""
    rpm: float | None = None
    """Requests a minute, for each endpoint that sets none of its own; so are the next three."""
    tpm: float | None = None
    """Tokens a minute."""
    rpd: int | None = None
    """Requests a day."""
    tpd: int | None = None
    """Tokens a day."""
    quota_timezone: str = "UTC"
    """The time zone in which the day begins for endpoints that name none."""
    share: bool = True
    """Share limits with other plait processes: of this host through a file in `home`, or of all hosts over `budget`."""
    store: str | None = field(default=None, repr=False)
    """A DSN (`postgresql://user:password@host/database`) under which batches, answers and the service's threads and
    runs are kept; None: SQLite files in `home`."""
    budget: str | None = field(default=None, repr=False)
    """Where limits are shared: `redis://`, `rediss://` or `postgresql://`; None: the store's PostgreSQL, else this
    host's file."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 600.0
    """Seconds without a byte from the endpoint after which an attempt has failed."""
    home: Path = Path()
    """Where plait keeps what must not be lost."""
    cache: Path = Path()
    """Where plait keeps what can be fetched again."""
    searxng_url: str | None = None
    """A SearXNG server that speaks JSON, for workflows that search the web."""
    prices: Mapping[str, object] = field(default_factory=dict)
    """Dollars per 1,000,000 tokens by model (`{"input": 0.5, "output": 1.5}`), over the table that comes with plait."""
    prices_file: Path | None = None
    """A TOML or JSON file of such prices, which go before all others."""
    embedded: bool = True
    """Whether the embedded model answers where no model is named; batches refuse instead."""
    langsmith: Mapping[str, str] = field(default_factory=dict, repr=False)
    """LangSmith's variables that its datasets are read with, where they are set."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By URL scheme, with `all` and the exceptions under `no`: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""
    local_model_file: Path | None = None
    """A GGUF file to use instead of the embedded model's own weights."""

    def override(self, **changes: Any) -> Settings:
        """A copy with the given fields replaced; None leaves a field as it is, a number may be given as text.

        Raises SettingsError where a value is out of range, naming the command line's option for it.
        """
        changed = {name: value for name, value in changes.items() if value is not None}
        for name in changed.keys() & SCHEMES.keys():
            changed[name] = server_url(name, changed[name], f"--{name}")
        for name in changed.keys() & NUMBERS.keys():
            changed[name] = _number(name, changed[name], f"--{name.removesuffix('_s').replace('_', '-')}")
        return dataclasses.replace(self, **changed)


def from_env(
    environ: Mapping[str, str] | None = None,
    *,
    section: Mapping[str, Any] | None = None,
    fallback: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from the environment, over the `"plait"` section of the app, over the defaults.

    `fallback` holds variables for which the environment has no value: an app's own `env`.

    Reads PLAIT_MODEL; PLAIT_MAX_CONCURRENCY, PLAIT_RPM, PLAIT_TPM, PLAIT_RPD, PLAIT_TPD, PLAIT_MAX_ATTEMPTS,
    PLAIT_DEADLINE_S, PLAIT_MAX_WAIT_S; PLAIT_QUOTA_TIMEZONE, PLAIT_SHARE, PLAIT_CONNECT_TIMEOUT_S,
    PLAIT_READ_TIMEOUT_S, PLAIT_LOCAL_MODEL_FILE, PLAIT_STORE, PLAIT_BUDGET, PLAIT_PRICES, PLAIT_SEARXNG_URL,
    PLAIT_HOME, OPENAI_BASE_URL, OPENAI_API_KEY, the XDG folders, the proxy variables, LangSmith's and those that the
    endpoints name.

    Raises SettingsError, naming the variable or the path in the section.
    """
    env = {**(fallback or {}), **(os.environ if environ is None else environ)}
    parsed = parse_section(section or {})
    values: dict[str, Any] = {
        name: value
        for name in ("model", "quota_timezone", "share", *NUMBERS)
        if (value := getattr(parsed, name)) is not None
    }
    values |= _values_from(env)
    user = Path(env.get("HOME") or Path.home())
    state = Path(env.get("XDG_STATE_HOME") or user / ".local" / "state")
    cache = Path(env.get("XDG_CACHE_HOME") or user / ".cache")
    return Settings(
        home=Path(env.get("PLAIT_HOME") or state / "plait").expanduser(),
        cache=cache / "plait",
        proxies=_proxies(env),
        searxng_url=env.get("PLAIT_SEARXNG_URL") or parsed.searxng_url,
        prices=parsed.prices,
        langsmith={name: env[name] for name in _LANGSMITH if env.get(name)},
        endpoints=_endpoints(parsed.endpoints, env, values.get("quota_timezone", "UTC")),
        **values,
    )


def _values_from(env: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in NUMBERS:
        variable = f"PLAIT_{name.upper()}"
        if text := env.get(variable, "").strip():
            found[name] = _number(name, text, variable)
    if model := env.get("PLAIT_MODEL", "").strip():
        found["model"] = model
    if file := env.get("PLAIT_LOCAL_MODEL_FILE"):
        found["local_model_file"] = Path(file).expanduser()
    if file := env.get("PLAIT_PRICES"):
        found["prices_file"] = Path(file).expanduser()
    if zone := env.get("PLAIT_QUOTA_TIMEZONE", "").strip():
        try:
            found["quota_timezone"] = time_zone(zone)
        except ValueError as error:
            raise SettingsError(f"PLAIT_QUOTA_TIMEZONE: {error}") from None
    for name in ("store", "budget"):
        if url := env.get(f"PLAIT_{name.upper()}", "").strip():
            found[name] = server_url(name, url, f"PLAIT_{name.upper()}")
    if share := env.get("PLAIT_SHARE", "").strip():
        if share not in {"0", "1"}:
            raise SettingsError(f"PLAIT_SHARE: expected 0 or 1, found {share!r}")
        found["share"] = share == "1"
    return found


_POSTGRES = ("postgresql", "postgres")
_WORD = re.compile(r"[^\s=@:]*")
"""A text that holds no password."""
SCHEMES = {
    "store": _POSTGRES,
    "budget": ("redis", "rediss", *_POSTGRES),
}
"""What the URL of a server may begin with."""


def server_url(name: str, url: str, called: str) -> str:
    """The URL of the `store` or `budget` as it was given. Raises SettingsError, without its password."""
    scheme, separator, rest = url.partition("://")  # in lower case: libpq knows no other
    if scheme not in SCHEMES[name] or not rest:
        expected = " or ".join(f"{each}://..." for each in SCHEMES[name])
        shown = f"{scheme}://..." if separator else repr(url[:40]) if _WORD.fullmatch(url) else "a text without ://"
        raise SettingsError(f"{called}: expected {expected}, found {shown}")
    if is_spilt(url):
        raise SettingsError(
            f"{called}: its user and password cannot be told from its host and port: write a character of theirs that "
            "ends them percent-encoded, as %40 for @, %2F for /, %23 for #, %3F for ?, %5B for [, and name a host"
        )
    return url


def _number(name: str, value: object, called: str) -> int | float:
    try:
        return number(name, value)
    except ValueError as error:
        raise SettingsError(f"{called}: {error}") from None


def _proxies(env: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for scheme in ("http", "https", "all", "no"):
        # Lower case wins, as in curl; a server reads HTTP_PROXY in upper case from a request header (httpoxy).
        value = env.get(f"{scheme}_proxy") or ("" if "REQUEST_METHOD" in env else env.get(f"{scheme.upper()}_PROXY"))
        if value:
            found[scheme] = value
    return found if found.keys() - {"no"} else {}


def _endpoints(sections: Mapping[str, EndpointSection], env: Mapping[str, str], zone: str) -> dict[str, Endpoint]:
    openai = sections.get("openai", EndpointSection())
    named = dict(sections)
    named["openai"] = openai.model_copy(
        update={
            "base_url": env.get("OPENAI_BASE_URL") or openai.base_url or OPENAI_BASE_URL,
            "api_key_env": openai.api_key_env or "OPENAI_API_KEY",
        }
    )
    return {name: _endpoint(name, section, env, zone) for name, section in named.items()}


def _endpoint(name: str, section: EndpointSection, env: Mapping[str, str], zone: str) -> Endpoint:
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
        bounds=_bounds(section),
        models={model: _bounds(bounds) for model, bounds in section.models.items()},
        quota_timezone=section.quota_timezone or zone,
    )


def _bounds(section: BoundsSection) -> Bounds:
    return Bounds(**{name: getattr(section, name) for name in BOUNDS})
