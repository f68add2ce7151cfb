"""What "good" means for our workflows: cheap, deterministic scores of texts.

An evaluator is a function of any of `inputs`, `outputs`, `reference_outputs` and `run`. It gives true or false, or a
number of which more is better. What it needs in a dataset's `reference_outputs` stands in its docstring.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Values = Mapping[str, object]

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)]*(?=\s|$)")
# Titles end with a dot and no sentence does.
_TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St)\.")


def mentions_topic(outputs: Values, reference_outputs: Values) -> float:
    """The share of the words in `mentions` that the text has, 0 to 1.

    Capitals do not matter and a word may go on: `fox` is found in `foxes`, not in `outfox`.
    """
    text = _text(outputs)
    wanted = _texts(reference_outputs, "mentions")
    found = [word for word in wanted if re.search(rf"(?<!\w){re.escape(word)}", text, re.IGNORECASE)]
    return len(found) / len(wanted)


def right_length(outputs: Values, reference_outputs: Values) -> bool:
    """Whether the text has as many words as `words` allows: `[least, most]`, both included."""
    bounds = reference_outputs["words"]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise ValueError(f"expected [least, most] in reference_outputs['words'], found {bounds!r}")
    least, most = bounds
    return bool(least <= len(_words(_text(outputs))) <= most)


def little_repetition(outputs: Values) -> float:
    """The share of different words among the words of the text, 0 to 1; 0 where it has none.

    Longer texts repeat more words, so compare texts of about one length. (Known as the type-token ratio.)
    """
    words = [word.casefold() for word in _words(_text(outputs))]
    return len(set(words)) / len(words) if words else 0.0


def names_person(inputs: Values, outputs: Values) -> bool:
    """Whether the text has the `name` of the inputs as a word."""
    return re.search(rf"(?<!\w){re.escape(str(inputs['name']))}(?!\w)", _text(outputs), re.IGNORECASE) is not None


def one_sentence(outputs: Values) -> bool:
    """Whether the text is one line with one sentence, ended or not."""
    text = _TITLE.sub("", _text(outputs).strip())
    ends = [match.end() for match in _END.finditer(text)]
    return bool(_words(text)) and "\n" not in text and (not ends or ends == [len(text)])


def brief_answer(outputs: Values) -> bool:
    """Whether each answer of the ask workflow has 1 to 25 words: one sentence or two."""
    answers = outputs["answers"]
    if not isinstance(answers, Mapping):
        raise ValueError(f"expected answers by label in outputs['answers'], found {type(answers).__name__}")
    return all(1 <= len(_words(str(answer["answer"] or ""))) <= 25 for answer in answers.values())


def no_new_numbers(inputs: Values, outputs: Values) -> bool:
    """Whether every number of the text, written in digits, stands in the `texts` of the inputs too."""
    known = {number for text in _texts(inputs, "texts") for number in _numbers(text)}
    return known.issuperset(_numbers(_text(outputs)))


def _text(outputs: Values) -> str:
    """The first text among the outputs: a story, a greeting, a summary."""
    for value in outputs.values():
        if isinstance(value, str):
            return value
    raise ValueError(f"expected a text among the outputs, found {', '.join(outputs) or 'nothing'}")


def _texts(values: Values, key: str) -> list[str]:
    found = values.get(key)
    if isinstance(found, list) and found and all(isinstance(item, str) and item for item in found):
        return found
    raise ValueError(f"expected a list of texts in {key!r}, found {found!r}")


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(text)}
