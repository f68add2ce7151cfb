"""What a model can do, asked before the first call: a workflow that needs more says so at once."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel

from plait.errors import ModelUnavailable
from plait.flow.scopes import current_scope
from plait.local_transport import LOCAL_BASE_URL
from plait.models import EMBEDDED_MODEL, chat_model
from plait.settings import Settings, from_env


def require_tools(model: BaseChatModel | str | None = None, *, settings: Settings | None = None) -> None:
    """Return where the model (by default the run's, as in `chat_model`) calls tools, or may: sends nothing.

    The embedded models do not. Of the others LangChain's `profile` says what is known; a model without a profile is
    allowed. Raises ModelUnavailable, naming the model and what to name instead.
    """
    if isinstance(model, BaseChatModel):
        found: BaseChatModel | None = model
        name = _name_of(model)
        embedded = getattr(model, "openai_api_base", None) == LOCAL_BASE_URL
    else:
        if settings is None:
            scope = current_scope()
            settings = scope.settings if scope else from_env()
        name = model or settings.model or EMBEDDED_MODEL
        embedded = name.partition(":")[0] == "local"
        found = None if embedded else chat_model(name, settings=settings)
    if embedded or (found is not None and (found.profile or {}).get("tool_calling") is False):
        raise ModelUnavailable(
            f"expected a model that calls tools, because the agents of this workflow search with them; {name} ignores "
            "tools: name one that calls them, for instance --model openai:gpt-5.4-mini"
        )


def _name_of(model: BaseChatModel) -> str:
    for field in ("model_name", "model"):
        if isinstance(name := getattr(model, field, None), str):
            return name
    return type(model).__name__
