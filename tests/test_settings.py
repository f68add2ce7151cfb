"""Settings from the environment and the app's section."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.errors import SettingsError
from plait.settings import OPENAI_BASE_URL, from_env


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
    assert endpoint.models == {"alfred": 2}
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
        ({}, {"max_concurrency": "lots"}, "plait.max_concurrency"),
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
