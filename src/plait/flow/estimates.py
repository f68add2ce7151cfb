"""How many tokens a call will cost, guessed before it is sent and corrected by what calls turned out to cost."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pydantic_core import to_json

IMAGE_TOKENS = 800
"""An image: OpenAI counts 765 for a square of 1024 pixels, Anthropic up to 1600."""
SMALL_IMAGE_TOKENS = 85
"""An image asked for in low detail, as OpenAI counts it."""
AUDIO_TOKENS = 300
"""A recording: half a minute at OpenAI's ten tokens a second."""
FILE_TOKENS = 3000
"""A document: one or two pages as Anthropic counts them."""

_MEDIA = {
    "image_url": IMAGE_TOKENS,
    "input_image": IMAGE_TOKENS,
    "image": IMAGE_TOKENS,
    "input_audio": AUDIO_TOKENS,
    "audio": AUDIO_TOKENS,
    "file": FILE_TOKENS,
    "input_file": FILE_TOKENS,
    "document": FILE_TOKENS,
}
_PROMPTS = ("messages", "input", "prompt", "system", "instructions")
_SCHEMAS = ("tools", "functions", "response_format", "text")
# What a message says of itself and its turn; models are shown none of it as such.
_UNSEEN = frozenset({"type", "role", "id", "status", "call_id", "tool_call_id", "tool_use_id", "cache_control"})
# https://github.com/openai/openai-cookbook, How_to_count_tokens_with_tiktoken: three a message, and its role.
_MESSAGE_TOKENS = 4
_BASE64 = re.compile(r"(?:data:[^,]{1,100},)?[A-Za-z0-9+/_-]{256}")


def prompt_tokens(body: Mapping[str, object], size_bytes: int) -> int:
    """The tokens of a request's prompt, guessed from its parsed JSON without a tokenizer.

    Text counts a token for four ASCII characters and one for each double quote (JSON is all short words); beyond ASCII
    0.45 for each character of two UTF-8 bytes and one for each of three. Tools and schemas count a token for four
    bytes of JSON; images, recordings and files flat amounts, whatever their size; a list of token ids its length. A
    body that holds none of the known fields counts a token for four of its `size_bytes`.

    The error, in per cent of what the tokenizers of GPT-4o (o200k), GPT-4 (cl100k), an older Claude and DeepSeek count:
    English prose +23 to +26, technical English -7 to +3, Python +13 to +22, JSON -1 to -7, JSON schemas -6 to +1,
    German -24 to +4, French -16 to +6, Russian -23 to +35, Chinese -20 to +71, Japanese -17 to +28, Korean -28 to +27,
    Arabic -53 to +30, Hindi -22 to +140. Tokenizers differ as much among themselves; `Sizes` corrects what is constant.
    It takes 3 us for a chat of 2 kB, 6 us with eight tools, 10 us for twenty messages, 2 us with an image of 10 MB.
    """
    total = 0.0
    known = False
    for name in _PROMPTS:
        if name in body:
            known = True
            total += _walk(body[name])
    for name in _SCHEMAS:
        schema = body.get(name)
        if isinstance(schema, list | dict):
            total += len(to_json(schema)) / 4
    return math.ceil(total) if known else math.ceil(size_bytes / 4)


def _walk(root: object) -> float:
    total = 0.0
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            total += _text_tokens(value)
        elif isinstance(value, dict):
            kind = value.get("type")
            media = _MEDIA.get(kind) if isinstance(kind, str) else None
            if media is not None and not _holds_text(value):
                total += SMALL_IMAGE_TOKENS if _is_small(value) else media
                continue
            if "role" in value:
                total += _MESSAGE_TOKENS
            for key, item in value.items():
                if key not in _UNSEEN:
                    waiting.append(item)
        elif isinstance(value, list):
            if value and isinstance(value[0], int):
                total += len(value)
            else:
                waiting.extend(value)
    return total


def _text_tokens(text: str) -> float:
    if text.isascii():
        # Constant time, so that a long base64 string in a field of no known kind costs nothing.
        if len(text) > 4000 and _BASE64.match(text):
            return IMAGE_TOKENS
        return len(text) / 4 + text.count('"')
    ascii_bytes = len(text.encode("ascii", "ignore"))
    others = len(text) - ascii_bytes
    # Characters beyond the first of two bytes, all of them having two or three; an emoji's four count as two of three.
    of_three = len(text.encode("utf-8", "replace")) - ascii_bytes - 2 * others
    return ascii_bytes / 4 + text.count('"') + of_three + max(0, others - of_three) * 0.45


def _holds_text(part: Mapping[str, object]) -> bool:
    # Anthropic's documents may be plain text: {"type": "document", "source": {"type": "text", "data": ...}}
    source = part.get("source")
    return isinstance(source, dict) and source.get("type") in {"text", "content"}


def _is_small(part: Mapping[str, object]) -> bool:
    image = part.get("image_url")
    return (image.get("detail") if isinstance(image, dict) else part.get("detail")) == "low"


def most_tokens(body: Mapping[str, object]) -> int | None:
    """The most tokens that one answer may have, as the request asks; None where it does not say."""
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        most = body.get(name)
        if isinstance(most, int) and not isinstance(most, bool) and most > 0:
            return most
    return None


@dataclass(frozen=True, slots=True)
class Expected:
    """What one call will probably cost, in tokens."""

    input: int
    output: int
    """The mean, of all its answers together."""
    output_sd: float
    """Its standard deviation. Calls vary independently, so n of them together need n means and only the root of n
    deviations: one that reserves `output + output_sd / sqrt(n)` with n in flight is right five times of six."""


class _History(NamedTuple):
    """One immutable state, so that readers need no lock."""

    calls: float = 0.0
    """That still count."""
    estimated: float = 100.0
    counted: float = 100.0
    """Prompt tokens, faded sums; their quotient corrects the next estimate. Begun as if 100 had been right."""
    mean: float = 256.0
    variance: float = 256.0**2
    """Of the output tokens of an answer. Begun with a guess that counts as one call."""


# A call's weight in the means is at least this: half of what is known is from the last 14 calls.
_LEAST_WEIGHT = 0.05
_MOST_CORRECTION = 10.0
_MOST_TOKENS = 1e9


class Sizes:
    """What the calls of one model turned out to cost. Any thread may use it; waits for none to read."""

    def __init__(self) -> None:
        self._history = _History()
        self._lock = threading.Lock()

    def expect(self, prompt: int, most: int | None, answers: int) -> Expected:
        """The cost of a call with `answers` answers of at `most` so many tokens each (None: any number).

        `prompt` is what `prompt_tokens` says of it; it is corrected by the ratio of counted to estimated tokens so far.
        An answer is expected to have the recent mean, before any call 256, and no more than `most`.
        """
        history = self._history
        ratio = min(_MOST_CORRECTION, max(1 / _MOST_CORRECTION, history.counted / history.estimated))
        mean, deviation = history.mean, math.sqrt(history.variance)
        if most is not None:
            mean = min(mean, most)
            deviation = min(deviation, most - mean)
        return Expected(math.ceil(prompt * ratio), math.ceil(mean * answers), deviation * answers)

    def learn(self, prompt_estimate: int, input_tokens: int, output_tokens: int, answers: int) -> None:
        """Note what a finished call cost, by its own report; `prompt_estimate` is what `prompt_tokens` said of it."""
        with self._lock:
            old = self._history
            weight = max(_LEAST_WEIGHT, 1 / (old.calls + 2))
            estimated, counted = old.estimated, old.counted
            if prompt_estimate > 0 and input_tokens > 0:
                fade = 1 - _LEAST_WEIGHT
                estimated = estimated * fade + min(prompt_estimate, _MOST_TOKENS)
                counted = counted * fade + min(input_tokens, _MOST_TOKENS)
            # Incremental exponentially weighted mean and variance: Finch 2009,
            # https://fanf2.user.srcf.net/hermes/doc/antiforgery/stats.pdf, section 9
            difference = min(max(0, output_tokens), _MOST_TOKENS) / max(1, answers) - old.mean
            self._history = _History(
                calls=min(old.calls + 1, 1 / _LEAST_WEIGHT),
                estimated=estimated,
                counted=counted,
                mean=old.mean + weight * difference,
                variance=(1 - weight) * (old.variance + weight * difference**2),
            )

    def dump(self) -> dict[str, float]:
        """What is known, for `load`."""
        return self._history._asdict()

    @classmethod
    def load(cls, dumped: object) -> Sizes:
        """Sizes as they were dumped; as new where that is not a dump, or holds numbers that cannot be."""
        sizes = cls()
        if isinstance(dumped, Mapping):
            numbers = [_finite(dumped.get(name)) for name in _History._fields]
            values = [number for number in numbers if number is not None]
            history = _History(*values)
            if len(values) == len(numbers) and history.estimated > 0 and history.counted > 0:
                sizes._history = history
        return sizes


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_TOKENS**2:
        return None
    return float(value)
