"""Settings from the environment and the app's section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis import ConnectionPool

from plait.errors import SettingsError
from plait.settings import OPENAI_BASE_URL, Bounds, from_env


def test_defaults_need_no_environment() -> None:
    settings = from_env({"HOME": "/home/ada"})
    assert settings.model is None
    assert settings.max_concurrency is None
    assert settings.home == Path("/home/ada/.local/state/plait")
    assert settings.cache == Path("/home/ada/.cache/plait")
    assert settings.endpoints["openai"].base_url == OPENAI_BASE_URL


def test_environment_beats_the_section_and_options_beat_both() -> None:
    section = {"model": "openai:a", "max_concurrency": 2, "read_timeout_s": 5}
    settings = from_env({"PLAIT_MODEL": "openai:b", "PLAIT_MAX_CONCURRENCY": "3"}, section=section)
    assert (settings.model, settings.max_concurrency, settings.read_timeout_s) == ("openai:b", 3, 5)
    assert settings.override(model="openai:c", max_concurrency=None).model == "openai:c"
    assert settings.override(max_concurrency=4).max_concurrency == 4


def test_an_apps_own_variables_fill_in_what_the_environment_lacks() -> None:
    settings = from_env({"PLAIT_MODEL": "openai:mine"}, fallback={"PLAIT_MODEL": "x:y", "OPENAI_API_KEY": "k"})
    assert settings.model == "openai:mine"
    assert settings.endpoints["openai"].api_key == "k"


def test_named_endpoints_read_their_own_key() -> None:
    section = {
        "endpoints": {
            "paradigm": {
                "base_url": "https://llm.example/v1/",
                "api_key_env": "PARADIGM_API_KEY",
                "max_concurrency": 8,
                "models": {"alfred": {"max_concurrency": 2}},
            }
        }
    }
    endpoint = from_env({"PARADIGM_API_KEY": "secret-key"}, section=section).endpoints["paradigm"]
    assert endpoint.base_url == "https://llm.example/v1"
    assert endpoint.api_key == "secret-key"
    assert endpoint.bounds == Bounds(max_concurrency=8)
    assert endpoint.models == {"alfred": Bounds(max_concurrency=2)}
    assert "secret-key" not in repr(endpoint)


@pytest.mark.parametrize(
    ("environ", "section", "message"),
    [
        ({"PLAIT_MAX_CONCURRENCY": "many"}, {}, "PLAIT_MAX_CONCURRENCY: expected a whole number, found 'many'"),
        ({"PLAIT_MAX_CONCURRENCY": "0"}, {}, "PLAIT_MAX_CONCURRENCY: expected 1 or more, found 0"),
        ({"PLAIT_DEADLINE_S": "-1"}, {}, "PLAIT_DEADLINE_S: expected a number above 0"),
        ({"PLAIT_DEADLINE_S": "nan"}, {}, "PLAIT_DEADLINE_S: expected a number above 0"),
        ({"OPENAI_BASE_URL": "localhost:8000"}, {}, "OPENAI_BASE_URL: expected a URL"),
        ({}, {"max_concurency": 3}, "plait.max_concurency: no such setting; did you mean 'max_concurrency'?"),
        ({}, {"max_concurrency": "lots"}, "plait.max_concurrency: expected a whole number, found 'lots'"),
        ({}, {"max_concurrency": True}, "plait.max_concurrency: expected a whole number, found True"),
        ({}, {"rpd": 2.5}, "plait.rpd: expected a whole number, found 2.5"),
        ({}, {"rpm": 0.5}, "plait.rpm: expected 1 or more a minute, found 0.5; for fewer use rpd"),
        ({}, {"tpm": float("nan")}, "plait.tpm: expected 1 or more a minute, found nan"),
        ({}, {"tpd": [1]}, "plait.tpd: expected a whole number, found [1]"),
        ({}, {"deadline_s": 10**400}, "plait.deadline_s: expected seconds, found 1000"),
        ({}, {"share": "yes"}, "plait.share: input should be a valid boolean, found 'yes'"),
        ({}, {"quota_timezone": "Mars/Olympus"}, "expected a time zone such as America/Los_Angeles, found 'Mars/"),
        ({}, {"quota_timezone": ""}, "plait.quota_timezone: expected a time zone"),
        ({"PLAIT_QUOTA_TIMEZONE": "../etc"}, {}, "PLAIT_QUOTA_TIMEZONE: expected a time zone"),
        ({"PLAIT_RPM": "0"}, {}, "PLAIT_RPM: expected 1 or more a minute, found 0"),
        ({"PLAIT_TPM": "inf"}, {}, "PLAIT_TPM: expected 1 or more a minute, found inf"),
        ({"PLAIT_RPD": "1e3"}, {}, "PLAIT_RPD: expected a whole number, found '1e3'"),
        ({"PLAIT_TPD": "-3"}, {}, "PLAIT_TPD: expected 1 or more, found -3"),
        ({"PLAIT_MAX_WAIT_S": "-1"}, {}, "PLAIT_MAX_WAIT_S: expected 0 or more seconds, found -1"),
        ({"PLAIT_SHARE": "yes"}, {}, "PLAIT_SHARE: expected 0 or 1, found 'yes'"),
        ({}, {"endpoints": {"openai": {"rpm": 0.2}}}, "plait.endpoints.openai.rpm: expected 1 or more a minute"),
        ({}, {"endpoints": {"openai": {"models": {"m": {"tpd": 0}}}}}, "openai.models.m.tpd: expected 1 or more"),
        (
            {},
            {"endpoints": {"openai": {"models": {"m": {"deadline": 1}}}}},
            "m.deadline: no such setting; did you mean",
        ),
        ({}, {"endpoints": {"openai": {"models": {"m": {"base_url": "x"}}}}}, "known: max_concurrency, rpm, tpm, rpd,"),
        ({}, {"endpoints": {"x": {}}}, "plait.endpoints.x.base_url: expected the endpoint's URL"),
        ({}, {"endpoints": {"x": {"base_url": "http://a/v1", "ca_file": "/none"}}}, "x.ca_file: expected a PEM file"),
        ({}, {"endpoints": {"x": {"base_url": "http://a/v1", "key": "sk"}}}, "plait.endpoints.x.key: no such setting"),
    ],
)
def test_wrong_values_are_named(environ: dict[str, str], section: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        from_env(environ, section=section)
    assert message in str(raised.value)


def test_proxies_follow_the_usual_variables() -> None:
    proxies = from_env({"HTTP_PROXY": "http://upper", "http_proxy": "http://lower", "NO_PROXY": "localhost"}).proxies
    assert proxies == {"http": "http://lower", "no": "localhost"}
    assert from_env({"NO_PROXY": "localhost"}).proxies == {}
    assert from_env({"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}).proxies == {}


def test_every_bound_can_be_set_for_the_process_an_endpoint_and_a_model() -> None:
    numbers: dict[str, Any] = {
        "max_concurrency": 3, "rpm": 60.5, "tpm": 1e6, "rpd": 200, "tpd": 10**7,
        "max_attempts": 2, "deadline_s": 5.5, "max_wait_s": 0,
    }  # fmt: skip
    section = {**numbers, "endpoints": {"openai": {**numbers, "models": {"m": numbers}}}}
    from_section = from_env({}, section=section)
    from_variables = from_env({f"PLAIT_{name.upper()}": str(value) for name, value in numbers.items()})
    from_options = from_env({}).override(**{name: str(value) for name, value in numbers.items()})
    for settings in (from_section, from_variables, from_options):
        assert {name: getattr(settings, name) for name in numbers} == numbers
    openai = from_section.endpoints["openai"]
    assert openai.bounds == openai.models["m"] == Bounds(**numbers)


def test_nothing_needs_to_be_bounded() -> None:
    settings = from_env({})
    assert settings.endpoints["openai"].bounds == Bounds()
    assert (settings.rpm, settings.tpm, settings.rpd, settings.tpd) == (None, None, None, None)
    assert (settings.max_attempts, settings.deadline_s, settings.max_wait_s) == (8, 600, 60)
    assert settings.share


def test_options_are_named_as_on_the_command_line() -> None:
    with pytest.raises(SettingsError, match="--deadline: expected a number above 0, found 0"):
        from_env({}).override(deadline_s=0)


def test_the_day_of_a_quota_begins_where_the_endpoint_says() -> None:
    section = {"endpoints": {"openai": {"quota_timezone": "America/Los_Angeles"}, "x": {"base_url": "http://a/v1"}}}
    zones = {name: endpoint.quota_timezone for name, endpoint in from_env({}, section=section).endpoints.items()}
    assert zones == {"openai": "America/Los_Angeles", "x": "UTC"}
    settings = from_env({"PLAIT_QUOTA_TIMEZONE": "Europe/Paris"}, section={**section, "quota_timezone": "Asia/Tokyo"})
    assert settings.quota_timezone == settings.endpoints["x"].quota_timezone == "Europe/Paris"


def test_limits_are_shared_unless_told_otherwise() -> None:
    assert not from_env({"PLAIT_SHARE": "0"}).share
    assert not from_env({}, section={"share": False}).share
    assert from_env({"PLAIT_SHARE": "1"}, section={"share": False}).share


@pytest.mark.parametrize("name", ["store", "budget"])
@pytest.mark.parametrize("user", ["user:p@geheim", "user:p@ge,heim", "user:p@geheim:99", "us@geheim:p"])
def test_a_postgres_password_with_a_bare_at_sign_is_refused_unshown(name: str, user: str) -> None:
    # libpq would take what is behind the first @ for the host, and name it in its errors.
    url = f"postgresql://{user}@127.0.0.1/db"
    with pytest.raises(SettingsError, match=f"PLAIT_{name.upper()}: .*percent-encoded") as from_variable:
        from_env({f"PLAIT_{name.upper()}": url})
    with pytest.raises(SettingsError, match=f"--{name}: .*percent-encoded") as from_option:
        from_env({}).override(**{name: url})
    assert "heim" not in f"{from_variable.value}{from_option.value}"
    encoded = "postgresql://us%40er:p%40ss@a:1,b:2/db"
    assert getattr(from_env({}).override(**{name: encoded}), name) == encoded


@pytest.mark.parametrize("name", ["store", "budget"])
@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://plait:geheim/db", "cannot be told from its host and port: .* name a host"),
        ("postgresql://plait:geheim", "cannot be told from its host and port"),
        ("host=h user=u password=geheim", "expected .*postgresql://... or postgres://..., found a text without ://"),
        ("postgresql//u:geheim@h/db", "found a text without ://"),
        ("postgresql:/u:geheim@h/db", "found a text without ://"),
        ("mysql://u:geheim@h/db", r"found mysql://\.\.\."),
        ("postgres", "found 'postgres'"),
        ("postgresql://", r"found postgresql://\.\.\."),
    ],
)
def test_a_url_that_is_none_is_refused_without_what_may_be_its_password(name: str, url: str, found: str) -> None:
    with pytest.raises(SettingsError, match=f"PLAIT_{name.upper()}: .*{found}") as refused:
        from_env({f"PLAIT_{name.upper()}": url})
    assert "heim" not in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql:///db", "postgresql://u:p@[::1]:5432,b/db", "postgresql://%2Frun%2Fpg/db"])
def test_postgres_may_have_several_hosts_or_none(url: str) -> None:
    assert from_env({"PLAIT_STORE": url}).store == url


def test_a_redis_password_may_hold_a_bare_at_sign_as_its_driver_reads_it() -> None:
    url = "redis://user:p@ss@cache/0"
    assert from_env({"PLAIT_BUDGET": url}).budget == url
    read = ConnectionPool.from_url(url).connection_kwargs
    assert (read["host"], read["password"]) == ("cache", "p@ss")
