"""Built-in evaluators of texts: equal, containing, matching, nearly equal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from plait.errors import InputError
from plait.experiments.evaluators.built_in.paths import output_of, pair_of, text_of
from plait.experiments.evaluators.forms import Evaluator
from plait.experiments.records import ExampleRun, Score

__all__ = ["contains", "edit_distance", "exact", "regex"]

_BOTH = frozenset({"outputs", "reference_outputs"})


def exact(
    *, output: str | None = None, reference: str | None = None, ignore_case: bool = False, strip: bool = True
) -> Evaluator:
    """Passed where the output equals the reference; texts without the space around them, all else as JSON values.

    `output` and `reference` are dotted paths into outputs and reference_outputs (see `pair_of` for their defaults).
    """

    def plain(value: object) -> object:
        if not isinstance(value, str):
            return value
        value = value.strip() if strip else value
        return value.casefold() if ignore_case else value

    def call(run: ExampleRun) -> bool:
        found, wanted = (plain(value) for value in pair_of(run, output, reference))
        # In Python True equals 1.
        return isinstance(found, bool) is isinstance(wanted, bool) and found == wanted

    return Evaluator(name="exact", call=call, way="inline", takes=_BOTH)


def contains(
    text: str | Sequence[str] | None = None,
    *,
    output: str | None = None,
    reference: str | None = None,
    ignore_case: bool = False,
) -> Evaluator:
    """Passed where the output contains `text` (all, of several), or without one the reference.

    `output` and `reference` are dotted paths (see `pair_of`). Raises InputError for an empty text.
    """
    texts = [text] if isinstance(text, str) else text
    if texts is not None and (
        not isinstance(texts, Sequence) or not texts or not all(isinstance(each, str) and each for each in texts)
    ):
        raise InputError(f"contains: expected a text to look for, or several, found {text!r}")
    if text is not None and reference is not None:
        raise InputError("contains: expected a text or a reference, found both: leave one out")

    def call(run: ExampleRun) -> Score:
        if texts is None:
            found, wanted = pair_of(run, output, reference)
            wanted_texts = [text_of(each) for each in wanted] if isinstance(wanted, list) else [text_of(wanted)]
        else:
            found, wanted_texts = output_of(run, output), list(texts)
        within = text_of(found)
        if ignore_case:
            within, wanted_texts = within.casefold(), [each.casefold() for each in wanted_texts]
        missing = [each for each in wanted_texts if each not in within]
        return Score(score=not missing, comment=f"without {', '.join(map(repr, missing))}"[:500] if missing else None)

    takes = frozenset({"outputs"}) if texts is not None else _BOTH
    return Evaluator(name="contains", call=call, way="inline", takes=takes)


def regex(pattern: str, *, output: str | None = None, ignore_case: bool = False, whole: bool = False) -> Evaluator:
    """Passed where `pattern` (of Python's `re`) matches in the output, with `whole` all of it (DOTALL).

    `output` is a dotted path. Raises InputError for a pattern that cannot be read.
    """
    try:
        compiled = re.compile(pattern, re.DOTALL | (re.IGNORECASE if ignore_case else 0))
    except (re.error, TypeError) as error:
        raise InputError(f"regex: expected a regular expression, found {pattern!r}: {error}") from error
    match = compiled.fullmatch if whole else compiled.search

    def call(run: ExampleRun) -> bool:
        return match(text_of(output_of(run, output))) is not None

    # A thread would not help with a slow pattern: `re` keeps the interpreter's lock.
    return Evaluator(name="regex", call=call, way="inline", takes=frozenset({"outputs"}))


def edit_distance(*, output: str | None = None, reference: str | None = None, ignore_case: bool = False) -> Evaluator:
    """How alike output and reference are, from 0 to 1 (equal): 1 - Levenshtein distance / length of the longer text.

    `output` and `reference` are dotted paths (see `pair_of`). Raises InputError where plait[eval] is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein  # noqa: PLC0415  (of an extra)
    except ImportError as error:
        raise InputError(f"edit_distance needs {error.name}: pip install 'plait[eval]'") from error

    def call(run: ExampleRun) -> float:
        found, wanted = (text_of(value) for value in pair_of(run, output, reference))
        if ignore_case:
            found, wanted = found.casefold(), wanted.casefold()
        return float(Levenshtein.normalized_similarity(found, wanted))

    return Evaluator(name="edit_distance", call=call, way="thread", takes=_BOTH)
