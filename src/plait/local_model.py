"""The embedded model: an OpenAI-compatible server inside this process, started at the first call for it."""

from __future__ import annotations

import importlib
import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait.errors import ModelUnavailable
from plait.settings import Settings
from plait.weights import find, known

__all__ = ["SLOTS", "LocalServer", "start"]

SLOTS = 4
"""Calls the embedded server decodes at once; it queues more."""

_CONTEXT_TOKENS = 4096
_ANSWER_TOKENS = 512


@dataclass(frozen=True, slots=True)
class LocalServer:
    """Where a running embedded model answers. Callers send `Connection: close` and stream.

    After a streamed answer the server drops a kept connection, and an answer that is not streamed is decoded
    to its end even when its caller has left.
    """

    base_url: str
    """`http://127.0.0.1:PORT/v1`; reachable from this host only."""
    api_key: str = field(repr=False)
    """Random per process, so that no other user of this host gets answers."""
    slots: int
    alias: str
    """The model's name in requests."""


_lock = threading.Lock()
_running: dict[tuple[str, Path], LocalServer] = {}
_keep: list[object] = []
"""The native servers: they answer as long as somebody holds them."""


def start(name: str, settings: Settings) -> LocalServer:
    """The server of an embedded model, one per process: the first call starts it, later ones get the same.

    Blocks for about a second, and holds the interpreter meanwhile (no other thread runs): call it before
    there is work in flight. The server ends with the process. Raises ModelUnavailable, with the cure, where
    the name is unknown, the package or its libgomp is missing, or the weights are missing or unusable; the
    next call tries again.
    """
    known(name)
    with _lock:
        weights = find(name, settings)
        if weights is None:
            raise ModelUnavailable(
                f"the weights of local:{name} are not on this machine; fetch them: plait models pull {name}"
            )
        key = (name, weights.resolve())
        if key not in _running:
            _running[key] = _launch(name, key[1])
        return _running[key]


def _launch(name: str, weights: Path) -> LocalServer:
    try:
        # Loaded here and by name: it is an extra without type information, and 100 MB to map.
        xllamacpp = importlib.import_module("xllamacpp")
    except ImportError as error:
        raise ModelUnavailable(_import_trouble(error)) from error
    api_key = secrets.token_urlsafe(24)
    try:
        server = xllamacpp.Server(_configure(xllamacpp.CommonParams(), name, weights, api_key))
    except RuntimeError as error:
        raise ModelUnavailable(_load_trouble(name, weights)) from error
    _keep.append(server)
    return LocalServer(f"{server.listening_address}/v1", api_key, SLOTS, name)


def _configure(params: Any, name: str, weights: Path, api_key: str) -> Any:
    params.model.path = str(weights)
    params.model_alias = {name}
    # A fixed share of the context for each slot: sharing one, a long prompt fails every call in flight.
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * _CONTEXT_TOKENS
    params.n_predict = _ANSWER_TOKENS
    params.cache_ram_mib = 0  # the default keeps prompts until 8 GiB are used
    params.fit_params = False  # nothing is left to fit, and fitting reads the model twice
    # Half the cores: beside a busy neighbour, threads waiting for each other decode thirty times slower.
    threads = max(1, min(4, _cores() // 2))
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.ui = False
    params.verbosity = 0
    params.api_keys = [api_key]
    params.cors_origins = "http://127.0.0.1"
    # Defaults for requests that set none: without them a model this small repeats itself.
    params.sampling.temp = 0.2
    params.sampling.top_p = 0.9
    params.sampling.penalty_repeat = 1.1
    params.sampling.penalty_last_n = 256
    params.sampling.dry_multiplier = 0.8
    return params


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _import_trouble(error: ImportError) -> str:
    if "libgomp" in str(error):
        return "the embedded model needs the library libgomp.so.1, install it with: apt-get install libgomp1"
    if isinstance(error, ModuleNotFoundError) and error.name == "xllamacpp":
        return "the embedded model needs the package xllamacpp, install it with: pip install xllamacpp"
    return f"the package xllamacpp cannot be loaded ({error}): pip install --force-reinstall xllamacpp"


def _load_trouble(name: str, weights: Path) -> str:
    try:
        with weights.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"cannot read the weights of local:{name} at {weights}: {error.strerror or error}"
    if magic != b"GGUF":
        return f"the weights of local:{name}: expected a GGUF file, found {magic!r} at the start of {weights}"
    return (
        f"the weights of local:{name} at {weights} cannot be loaded: expected a whole GGUF file and "
        f"free memory of about six times its size; check it, or fetch it again: plait models pull {name}"
    )
