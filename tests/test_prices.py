"""Prices: what a model costs, which name a version falls to, and how users override them."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import pytest

from plait.errors import SettingsError
from plait.flow.usage import Tokens
from plait.prices import Price, Prices, load_prices, read_prices, read_prices_file


@pytest.fixture(scope="module")
def prices() -> Prices:
    return load_prices()


def test_every_packaged_price_is_dated_and_says_where_it_was_seen(prices: Prices) -> None:
    assert len(prices.entries) > 24
    for name, price in prices.entries.items():
        assert re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", price.as_of), name
        assert price.as_of[:7] <= datetime.datetime.now(datetime.UTC).strftime("%Y-%m"), name
        assert price.source, name
        assert price.cached_input_usd is None or price.cached_input_usd <= price.input_usd, name


def test_cached_tokens_are_part_of_the_input_and_cost_their_own_price(prices: Prices) -> None:
    cost = prices.cost_usd({"gpt-5.4-mini": Tokens(input=1_000_000, cached=400_000, output=100_000)})
    assert cost == pytest.approx(0.6 * 0.75 + 0.4 * 0.075 + 0.1 * 4.5)


def test_cached_tokens_cost_as_much_as_others_where_no_price_is_known_for_them() -> None:
    assert Price(input_usd=2.0, output_usd=0.0).cost_usd(Tokens(1_000_000, 900_000, 0)) == pytest.approx(2.0)


def test_more_cached_tokens_than_input_never_cost_less_than_all_cached() -> None:
    price = Price(input_usd=2.0, output_usd=1.0, cached_input_usd=1.0)
    assert price.cost_usd(Tokens(10, 1_000, 0)) == price.cost_usd(Tokens(10, 10, 0))


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"),
        ("gpt-5.4-2026-03-05", "gpt-5.4"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-sonnet-5-latest", "claude-sonnet-5"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("openai:gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
    ],
)
def test_a_version_has_the_price_of_its_model(prices: Prices, version: str, name: str) -> None:
    assert prices.price(version) is prices.entries[name]


@pytest.mark.parametrize(
    "name", ["gpt-5.5-pro", "gpt-4o-audio-preview", "gpt-5.45", "claude-opus-4-9", "ft:gpt-4o-mini:us::1", "o3-", ""]
)
def test_another_model_with_a_like_name_has_no_price_rather_than_a_wrong_one(prices: Prices, name: str) -> None:
    assert prices.price(name) is None


def test_an_embedded_model_costs_nothing(prices: Prices) -> None:
    assert prices.cost_usd({"local:smollm2-135m": Tokens(10, 0, 10)}) == 0
    assert prices.cost_usd({"smollm2-135m": Tokens(10, 0, 10)}, endpoint="local") == 0


def test_a_model_without_a_price_makes_the_cost_unknown_and_is_named(prices: Prices) -> None:
    spent = {"gpt-5.4": Tokens(1, 0, 1), "secret-7b": Tokens(1, 0, 1)}
    assert prices.cost_usd(spent) is None
    assert prices.unpriced([*spent, "secret-7b"]) == ["secret-7b"]
    assert prices.cost_usd({"secret-7b": Tokens(0, 0, 0)}) == 0


def test_users_override_and_add_and_the_endpoint_goes_before_the_name() -> None:
    section = {
        "gpt-5.4": {"input": 1, "output": 2},
        "alfred-40b": {"input": 3, "output": 3},
        "paradigm:alfred-40b": {"input": 0.5, "cached_input": 0.05, "output": 1.5, "as_of": "2026-10"},
        "house:*": {"input": 0, "output": 0},
    }
    prices = load_prices(section)
    assert prices.price("gpt-5.4") == Price(1.0, 2.0)
    assert prices.price("alfred-40b-1123", "elsewhere") == Price(3.0, 3.0)
    assert prices.price("alfred-40b-1123", "paradigm") == Price(0.5, 1.5, 0.05, "2026-10")
    assert prices.price("paradigm:alfred-40b-1123") == prices.price("alfred-40b", "paradigm")
    assert prices.price("gpt-5.4", "house") == Price(0.0, 0.0)
    assert prices.price("gpt-5.4-nano") is not None


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_file_of_prices_goes_before_the_section(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"prices{suffix}"
    if suffix == ".json":
        file.write_text(json.dumps({"as_of": "2026-11-01", "my-model": {"input": 7, "output": 8}}))
    else:
        file.write_text('as_of = "2026-11-01"\n[my-model]\ninput = 7\noutput = 8\n')
    prices = load_prices({"my-model": {"input": 1, "output": 1}}, file)
    assert prices.price("my-model") == Price(7.0, 8.0, None, "2026-11-01")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], r"plait.prices: expected prices by model name, found \[\]"),
        ({"m": 3}, r"plait.prices.m: expected \{.*\} in USD per 1,000,000 tokens, found 3"),
        ({"m": {"input": "1", "output": 1}}, r"m.input: expected USD per 1,000,000 tokens as a number, found '1'"),
        ({"m": {"input": True, "output": 1}}, r"m.input: .* found True"),
        ({"m": {"input": -1, "output": 1}}, r"m.input: expected 0 or more USD .* found -1"),
        ({"m": {"input": float("nan"), "output": 1}}, r"m.input: expected 0 or more USD .* found nan"),
        ({"m": {"input": 1, "output": float("inf")}}, r"m.output: expected 0 or more USD .* found inf"),
        ({"m": {"input": 1}}, r"m.output: expected USD per 1,000,000 tokens, found nothing \(0 if it is free\)"),
        ({"m": {"input": 1, "outputs": 1}}, r"m.outputs: no such part of a price; did you mean 'output'\?"),
        ({"m": {"input": 1, "output": 1, "zzz": 1}}, r"m.zzz: no such part of a price; known: input, cached_input"),
        ({"m": {"input": 1, "output": 1, "as_of": 2026}}, r"m.as_of: expected text, found 2026"),
        ({"as_of": 2026}, r"as_of: expected a date as text, found 2026"),
        ({"gpt-5": {"4": {"input": 1}}}, r"gpt-5.4: expected a price, found a table; put a name with dots in quotes"),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused_by_name(found: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_prices(found, "plait.prices")


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        read_prices({"a": {"input": -1, "output": 1}, "b": {"input": 1}}, "plait.prices")
    assert str(error.value).count("\n") == 1


def test_a_file_that_is_absent_or_no_toml_or_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("= 1")
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"\xe9": 1}')
    for file, message in [
        (tmp_path / "absent.toml", "found none"),
        (broken, "expected TOML"),
        (latin, "can be read"),
        (tmp_path, "can be read"),
    ]:
        with pytest.raises(SettingsError, match=f"PLAIT_PRICES: .*{file.name}.*{message}"):
            read_prices_file(file)
