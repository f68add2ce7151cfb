"""The built-in evaluator of meaning: how near an output is to its reference, whatever words it uses."""

from __future__ import annotations

from plait.experiments.evaluators.built_in.embeddings import cosine, load
from plait.experiments.evaluators.built_in.paths import pair_of, text_of
from plait.experiments.evaluators.forms import Evaluator
from plait.experiments.records import ExampleRun

__all__ = ["similarity"]


def similarity(*, output: str | None = None, reference: str | None = None) -> Evaluator:
    """The cosine of output and reference as all-MiniLM-L6-v2 sees them: 1 is the same, unrelated texts are near 0.

    Only the first 256 tokens of a text count. `output` and `reference` are dotted paths (see `pair_of`). Loads the
    model, in about a second: call it in a thread. Raises ModelUnavailable where plait[embed] is not installed.
    """
    load()

    def call(run: ExampleRun) -> float:
        found, wanted = pair_of(run, output, reference)
        return cosine(text_of(found), text_of(wanted))

    return Evaluator(name="similarity", call=call, way="thread", takes=frozenset({"outputs", "reference_outputs"}))
