"""The seam for graphs that build their own clients: wraps the default HTTP transports of this process.

Meant for processes that plait owns (`plait run`). The way tracing libraries instrument HTTP: the public
`handle_async_request` and `handle_request` of httpx2's and httpx's default transports and of the aiohttp transports
that the OpenAI and Anthropic SDKs carry.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from plait.flow.exchange import exchange, is_marked
from plait.flow.gate import Gate
from plait.flow.wire import drive
from plait.flow.wires import AsyncWire, BlockingWire

_TRANSPORTS = (
    ("httpx2", "AsyncHTTPTransport", "handle_async_request"),
    ("httpx2", "HTTPTransport", "handle_request"),
    ("httpx", "AsyncHTTPTransport", "handle_async_request"),
    ("httpx", "HTTPTransport", "handle_request"),
    ("openai._vendor.httpx_aiohttp.transport", "AiohttpTransport", "handle_async_request"),
    ("anthropic._vendor.httpx_aiohttp.transport", "AiohttpTransport", "handle_async_request"),
    ("httpx_aiohttp", "AiohttpTransport", "handle_async_request"),
)


@contextmanager
def install(gate: Gate) -> Iterator[None]:
    """Lead the model calls of every HTTP client in this process through the gate, until the block ends.

    Not covered: raw aiohttp, requests, gRPC, and transports of somebody's own.
    """
    undo: list[Callable[[], None]] = []

    def wrap(module: ModuleType) -> None:
        for name, transport_name, method in _TRANSPORTS:
            if name != module.__name__:
                continue
            transport = getattr(module, transport_name)
            original = getattr(transport, method)
            wrapper = _wrapped if method == "handle_request" else _wrapped_async
            setattr(transport, method, wrapper(original, gate))
            undo.append(functools.partial(setattr, transport, method, original))

    modules = {name for name, _, _ in _TRANSPORTS}
    for name in modules & sys.modules.keys():
        wrap(sys.modules[name])
    later = _AfterImport(modules - sys.modules.keys(), wrap)
    sys.meta_path.insert(0, later)
    try:
        yield
    finally:
        sys.meta_path.remove(later)
        for restore in reversed(undo):
            restore()


class _AfterImport(MetaPathFinder):
    """Calls back when one of the modules has been imported: importing an SDK takes a second that most runs save."""

    def __init__(self, names: set[str], callback: Callable[[ModuleType], None]) -> None:
        self._names = names
        self._callback = callback

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        self._names.discard(fullname)  # the search below comes by here again
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _CallbackLoader(spec.loader, self._callback)
        return spec


class _CallbackLoader(Loader):
    def __init__(self, loader: Loader, callback: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._callback = callback

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._callback(module)


def _wrapped_async(original: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        if is_marked(request):
            return await original(self, request)
        wire = AsyncWire(functools.partial(original, self), gate.clock)
        return await exchange(request, wire, gate, foreign=True)

    return handle_async_request


def _wrapped(original: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        if is_marked(request):
            return original(self, request)
        wire = BlockingWire(functools.partial(original, self), gate.clock)
        return drive(exchange(request, wire, gate, foreign=True))

    return handle_request
