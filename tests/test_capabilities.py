"""What a model can do is known before it is called, as far as anybody knows it."""

from __future__ import annotations

import pytest

from plait.capabilities import require_tools
from plait.errors import ModelUnavailable
from plait.models import chat_model
from plait.settings import Settings, from_env
from plait.simulator import Simulator


@pytest.fixture
def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url})


@pytest.mark.parametrize("name", [None, "local:smollm2-135m"])
def test_the_embedded_model_calls_no_tools(settings: Settings, name: str | None) -> None:
    with pytest.raises(ModelUnavailable, match=r"local:smollm2-135m ignores tools.*--model openai:"):
        require_tools(name, settings=settings)


def test_the_settings_name_the_model_that_is_meant(settings: Settings) -> None:
    require_tools(settings=settings.override(model="openai:m"))
    with pytest.raises(ModelUnavailable, match="local:smollm2-135m"):
        require_tools(settings=settings.override(model="local:smollm2-135m"))


def test_a_model_whose_profile_says_no_is_refused(settings: Settings) -> None:
    with pytest.raises(ModelUnavailable, match="openai:text-embedding-3-small ignores tools"):
        require_tools("openai:text-embedding-3-small", settings=settings)


@pytest.mark.parametrize("name", ["openai:gpt-4o", "openai:a-private-model"])
def test_models_that_call_tools_or_are_unknown_are_allowed(settings: Settings, name: str) -> None:
    require_tools(name, settings=settings)


def test_a_model_that_was_built_already_is_judged_the_same_way(provider: Simulator, settings: Settings) -> None:
    require_tools(chat_model("openai:gpt-4o", settings=settings))
    for name in ("local:smollm2-135m", "openai:text-embedding-3-small"):
        with pytest.raises(ModelUnavailable, match=f"{name.partition(':')[2]} ignores tools"):
            require_tools(chat_model(name, settings=settings))
    assert provider.requests == []


def test_a_name_that_cannot_be_built_says_why(settings: Settings) -> None:
    with pytest.raises(ModelUnavailable, match="expected a model as endpoint:model"):
        require_tools("gpt-4o", settings=settings)
