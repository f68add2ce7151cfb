"""What model calls cost: a dated table of prices that users can override, and the cost of counted tokens."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

from plait.errors import SettingsError
from plait.flow.usage import Tokens

_PER = 1_000_000
_FORM = '{"input": 0.5, "cached_input": 0.05, "output": 1.5}'
_NUMBERS = ("input", "cached_input", "output")
_TEXTS = ("as_of", "source")
# Versions of one model share its price; a word such as -pro, -mini or -audio makes another model of it.
_VERSION = re.compile(r"(?:-(?:\d{4}-\d{2}-\d{2}|\d{2}-\d{2}(?:\d{2})?|\d{3,8}|latest|preview|exp))+")


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in USD per 1,000,000 tokens."""

    input_usd: float
    """For tokens of the prompt that did not come from the provider's cache."""
    output_usd: float
    cached_input_usd: float | None = None
    """For those that did; None: as much as others."""
    as_of: str = ""
    """When it was last seen, as a date; empty where a user set the price without one."""
    source: str = ""
    """Where it was seen, in words."""

    def cost_usd(self, tokens: Tokens) -> float:
        """What these tokens cost, in USD. Cached tokens beyond the input's count for nothing."""
        cached = min(tokens.cached, tokens.input)
        cached_usd = self.input_usd if self.cached_input_usd is None else self.cached_input_usd
        fresh = tokens.input - cached
        return (fresh * self.input_usd + cached * cached_usd + tokens.output * self.output_usd) / _PER


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model name, `endpoint:model`, or `endpoint:*` for all models of an endpoint."""

    entries: Mapping[str, Price]

    def price(self, model: str, endpoint: str | None = None) -> Price | None:
        """The price of a model, None where it is not known.

        `model` may carry its endpoint (`paradigm:alfred-40b`). What is said for the endpoint goes before what is said
        for the name alone. A version (`gpt-5.4-mini-2026-03-17`, `-latest`) has the price of the longest name it is a
        version of; `gpt-5.5-pro` is no version of `gpt-5.5`.
        """
        if endpoint is None and ":" in model:
            if (price := self._version(model)) is not None:
                return price
            endpoint, model = model.split(":", 1)
        if endpoint is not None:
            price = self._version(f"{endpoint}:{model}") or self.entries.get(f"{endpoint}:*")
            if price is not None:
                return price
        return self._version(model)

    def cost_usd(self, tokens: Mapping[str, Tokens], endpoint: str | None = None) -> float | None:
        """What tokens by model cost together, in USD; None when a model that used any has no price."""
        total = 0.0
        for model, counts in tokens.items():
            if not counts.input and not counts.output:
                continue
            price = self.price(model, endpoint)
            if price is None:
                return None
            total += price.cost_usd(counts)
        return total

    def unpriced(self, models: Iterable[str], endpoint: str | None = None) -> list[str]:
        """Those of the models that have no price, each once, in order."""
        return [model for model in dict.fromkeys(models) if self.price(model, endpoint) is None]

    def override(self, entries: Mapping[str, Price]) -> Prices:
        """A copy in which the given entries replace or join the others."""
        return Prices({**self.entries, **entries})

    def _version(self, name: str) -> Price | None:
        end = len(name)
        while end > 0:
            if (price := self.entries.get(name[:end])) is not None and (
                end == len(name) or _VERSION.fullmatch(name, end)
            ):
                return price
            end = name.rfind("-", 0, end)
        return None


def load_prices(section: Mapping[str, object] | None = None, file: Path | None = None) -> Prices:
    """The packaged prices, overridden by `section` (langgraph.json's "prices"), overridden by a user's file.

    Reads files: call it in a thread where an event loop runs. Raises SettingsError, naming the file and the key.
    """
    packaged = resources.files("plait").joinpath("prices.toml").read_text(encoding="utf-8")
    prices = Prices(read_prices(tomllib.loads(packaged), "prices.toml"))
    if section is not None:
        prices = prices.override(read_prices(section, "langgraph.json: plait.prices"))
    if file is not None:
        prices = prices.override(read_prices_file(file))
    return prices


def read_prices_file(file: Path) -> dict[str, Price]:
    """The prices in a TOML or JSON file. Raises SettingsError where it cannot be read or a price cannot be meant."""
    where = f"PLAIT_PRICES: {file}"
    try:
        text = file.read_text(encoding="utf-8")
        found: object = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(f"{where}: expected a file with prices, found none") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where}: expected a file with prices that can be read: {error}") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        form = "JSON" if file.suffix == ".json" else "TOML (or JSON in a file that ends in .json)"
        raise SettingsError(f"{where}: expected {form}: {error}") from error
    return read_prices(found, where)


def read_prices(found: object, where: str) -> dict[str, Price]:
    """Prices from what JSON or TOML holds: `{"my-model": {"input": 0.5, "cached_input": 0.05, "output": 1.5}}`.

    Numbers are USD per 1,000,000 tokens; `cached_input`, `as_of` and `source` may be left out. A top-level `as_of`
    dates the entries that have none. Raises SettingsError with one line for each mistake; `where` begins each.
    """
    if not isinstance(found, Mapping):
        raise SettingsError(f"{where}: expected prices by model name, found {_shown(found)}")
    mistakes: list[str] = []
    prices: dict[str, Price] = {}
    entries = dict(cast("Mapping[str, object]", found))
    dated = entries.pop("as_of", "")
    if not isinstance(dated, str):
        mistakes.append(f"{where}.as_of: expected a date as text, found {_shown(dated)}")
        dated = ""
    for model, entry in entries.items():
        wrong = _mistakes(entry)
        mistakes += [f"{where}.{model}{mistake}" for mistake in wrong]
        if not wrong:
            prices[model] = _price(cast("Mapping[str, float | str]", entry), dated)
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return prices


def _price(entry: Mapping[str, float | str], dated: str) -> Price:
    cached = entry.get("cached_input")
    return Price(
        input_usd=float(entry["input"]),
        output_usd=float(entry["output"]),
        cached_input_usd=None if cached is None else float(cached),
        as_of=str(entry.get("as_of", dated)),
        source=str(entry.get("source", "")),
    )


def _mistakes(entry: object) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f": expected {_FORM} in USD per 1,000,000 tokens, found {_shown(entry)}"]
    wrong = []
    for key, value in cast("Mapping[str, object]", entry).items():
        if key in _NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int | float):
                wrong.append(f".{key}: expected USD per 1,000,000 tokens as a number, found {_shown(value)}")
            elif not 0 <= value < math.inf:
                wrong.append(f".{key}: expected 0 or more USD per 1,000,000 tokens, found {value}")
        elif key in _TEXTS:
            if not isinstance(value, str):
                wrong.append(f".{key}: expected text, found {_shown(value)}")
        elif isinstance(value, Mapping):
            wrong.append(f'.{key}: expected a price, found a table; put a name with dots in quotes: "gpt-5.4" = ...')
        else:
            near = difflib.get_close_matches(key, (*_NUMBERS, *_TEXTS), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join((*_NUMBERS, *_TEXTS))}"
            wrong.append(f".{key}: no such part of a price; {hint}")
    if not wrong:
        missing = [key for key in ("input", "output") if key not in entry]
        wrong += [f".{key}: expected USD per 1,000,000 tokens, found nothing (0 if it is free)" for key in missing]
    return wrong


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
