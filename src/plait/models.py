"""Chat models by name, `endpoint:model`: pooled, gated, with one layer of retries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from plait.chat import PlainChatOpenAI
from plait.errors import ModelUnavailable, SettingsError
from plait.flow.gate import Gate
from plait.flow.pool import BlockingPool, Network, Pool
from plait.flow.registry import gate_for
from plait.flow.scopes import current_settings
from plait.flow.transport import BlockingFlowTransport, FlowTransport
from plait.local_model import SLOTS
from plait.local_transport import LOCAL_BASE_URL, BlockingLocalTransport, LocalTransport
from plait.settings import OPENAI_BASE_URL, Settings
from plait.weights import WEIGHTS, find

EMBEDDED_MODEL = "local:smollm2-135m"

Clients = tuple[httpx2.AsyncClient, httpx2.Client]

_lock = threading.RLock()


def chat_model(
    name: str | None = None,
    *,
    temperature: float | None = None,
    max_tokens: int | None = None,
    settings: Settings | None = None,
) -> BaseChatModel:
    """The chat model `endpoint:model`, ready for `prompt | model | parser`.

    The endpoint is `openai`, `local`, one named in langgraph.json's `plait.endpoints`, or a provider that LangChain's
    `init_chat_model` knows and whose package is installed. Without a name it is the run's model (--model, PLAIT_MODEL,
    the app's section), else the embedded one. Settings are the run's, else the environment's. Equal calls share one
    object; any event loop and thread may use it.

    Raises ModelUnavailable where the name, a package or a key is missing; SettingsError where none is named in a batch.
    """
    settings = settings or current_settings()
    name = name or settings.model
    if name is None and not settings.embedded:
        raise SettingsError(
            "expected a model, found none: name one with --model or PLAIT_MODEL, or ask for the embedded model with "
            f"--model {EMBEDDED_MODEL}"
        )
    name = name or EMBEDDED_MODEL
    gate = gate_for(settings)
    key = ("model", name, temperature, max_tokens)
    with _lock:
        if key not in gate.built:
            gate.built[key] = _build(name, temperature, max_tokens, settings, gate)
        model: BaseChatModel = gate.built[key]
        return model


def _build(
    name: str, temperature: float | None, max_tokens: int | None, settings: Settings, gate: Gate
) -> BaseChatModel:
    prefix, _, model = name.partition(":")
    known = ", ".join(sorted({*settings.endpoints, "local"}))
    if not model:
        raise ModelUnavailable(
            f"expected a model as endpoint:model, found {name!r}; write openai:{name} if OpenAI's interface serves it "
            f"(endpoints: {known})"
        )
    if prefix == "local":
        return _local(model, temperature, max_tokens, settings, gate)
    endpoint = settings.endpoints.get(prefix)
    if endpoint is None:
        return _other_provider(prefix, model, temperature, max_tokens, settings)
    is_openai = endpoint.base_url == OPENAI_BASE_URL
    if endpoint.api_key is None and (is_openai or (endpoint.api_key_env and prefix != "openai")):
        raise ModelUnavailable(
            f"{name} needs a key: expected one in {endpoint.api_key_env}, which is not set; "
            f"set it, or try --model {EMBEDDED_MODEL}"
        )
    network = Network(proxies=settings.proxies, ca_file=endpoint.ca_file)
    async_client, client = _clients_of(prefix, gate, settings, lambda: (Pool(network), BlockingPool(network)))
    return PlainChatOpenAI(
        model=model,
        base_url=endpoint.base_url,
        # A private server that asks for no key still gets a header: the SDK refuses to start without one.
        api_key=SecretStr(endpoint.api_key or "none"),
        default_headers=dict(endpoint.headers) or None,
        temperature=temperature,
        max_completion_tokens=max_tokens if is_openai else None,
        extra_body=None if is_openai else _length(max_tokens),
        timeout=_timeout(settings),
        max_retries=0,
        stream_usage=True,
        # Compatible servers rarely have /responses; for OpenAI's own, LangChain knows which models want it.
        use_responses_api=None if is_openai else False,
        http_async_client=async_client,
        http_client=client,
    )


def _local(
    model: str, temperature: float | None, max_tokens: int | None, settings: Settings, gate: Gate
) -> BaseChatModel:
    if model not in WEIGHTS:
        raise ModelUnavailable(f"expected one of the embedded models ({', '.join(WEIGHTS)}), found local:{model}")
    limit = settings.endpoints["local"].bounds.max_concurrency if "local" in settings.endpoints else None
    gate.declare(LOCAL_BASE_URL, max_concurrency=min(limit or SLOTS, SLOTS))
    async_client, client = _clients_of(
        f"local:{model}",
        gate,
        settings,
        lambda: (LocalTransport(model, settings), BlockingLocalTransport(model, settings)),
    )
    return PlainChatOpenAI(
        model=model,
        base_url=LOCAL_BASE_URL,
        api_key=SecretStr("set by the transport"),
        temperature=temperature,
        extra_body=_length(max_tokens),
        timeout=_timeout(settings),
        max_retries=0,
        stream_usage=True,
        # The server goes on decoding a plain request after its client left, but notices the end of a stream.
        streaming=True,
        use_responses_api=False,
        http_async_client=async_client,
        http_client=client,
    )


def _other_provider(
    prefix: str, model: str, temperature: float | None, max_tokens: int | None, settings: Settings
) -> BaseChatModel:
    options: dict[str, Any] = {"max_retries": 0, "timeout": settings.read_timeout_s}
    if temperature is not None:
        options["temperature"] = temperature
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    try:
        made: BaseChatModel = init_chat_model(model, model_provider=prefix, **options)
    except ImportError as error:
        raise ModelUnavailable(f"{prefix}:{model} needs a package that is not installed: {error}") from error
    except Exception as error:  # each provider's package raises its own for a missing key
        known = ", ".join(sorted({*settings.endpoints, "local"}))
        raise ModelUnavailable(
            f"cannot build {prefix}:{model}: {str(error).splitlines()[0]}\n"
            f"expected one of the endpoints ({known}) or a provider of LangChain's init_chat_model with its key set"
        ) from error
    return made


def _clients_of(
    endpoint: str,
    gate: Gate,
    settings: Settings,
    transports: Callable[[], tuple[httpx2.AsyncBaseTransport, httpx2.BaseTransport]],
) -> Clients:
    """The endpoint's two clients, one pool under each, for all its models."""
    key = ("clients", endpoint)
    if key not in gate.built:
        inner, blocking_inner = transports()
        timeout = _timeout(settings)
        gate.built[key] = (
            httpx2.AsyncClient(transport=FlowTransport(inner, gate), timeout=timeout, follow_redirects=True),
            httpx2.Client(
                transport=BlockingFlowTransport(blocking_inner, gate), timeout=timeout, follow_redirects=True
            ),
        )
    clients: Clients = gate.built[key]
    return clients


def _length(max_tokens: int | None) -> dict[str, int] | None:
    # OpenAI renamed the field to max_completion_tokens; compatible servers know the old name.
    return None if max_tokens is None else {"max_tokens": max_tokens}


def _timeout(settings: Settings) -> httpx2.Timeout:
    # No pool timeout: calls wait at the gate, not for a connection.
    return httpx2.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s, pool=None)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model or endpoint that `--model` can name."""

    name: str
    base_url: str
    key: Literal["set", "missing", "not needed"]
    note: str


def describe_models(settings: Settings) -> list[ModelInfo]:
    """What is configured: the embedded models, then the endpoints by name. Never holds a key."""
    found = [
        ModelInfo(
            f"local:{name}",
            "in process",
            "not needed",
            f"{weights.size_bytes / 1e6:.0f} MB, {weights.licence}, "
            + ("ready" if find(name, settings) else f"not fetched yet: plait models pull {name}"),
        )
        for name, weights in WEIGHTS.items()
    ]
    for name, endpoint in sorted(settings.endpoints.items()):
        if name == "local":
            continue
        needed = endpoint.api_key_env and (name != "openai" or endpoint.base_url == OPENAI_BASE_URL)
        found.append(
            ModelInfo(
                f"{name}:MODEL",
                endpoint.base_url,
                "set" if endpoint.api_key else "missing" if needed else "not needed",
                f"key from {endpoint.api_key_env}" if endpoint.api_key_env else "",
            )
        )
    return found
