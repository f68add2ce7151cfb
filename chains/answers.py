"""Takes a model's answer as text, and asks once more where it is empty."""

from __future__ import annotations

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable

from plait import chat_model
from plait.errors import PlaitError
from plait.local_transport import LOCAL_BASE_URL


class EmptyAnswer(PlaitError):
    """The model answered with nothing, twice."""


async def answer_of(chain: Runnable[LanguageModelInput, str], messages: LanguageModelInput) -> str:
    """The answer without the white space around it. Raises EmptyAnswer where the second one is empty too."""
    for _ in range(2):
        if answer := (await chain.ainvoke(messages)).strip():
            return answer
    raise EmptyAnswer("expected an answer, found nothing but white space, twice; try another model or prompt")


def room_of(model: str | None) -> int:
    """How many characters of text one question may carry: what models have room for, less for the embedded one."""
    return 3_000 if _is_embedded(model) else 12_000


def limit_of(words: int, model: str | None) -> int | None:
    """The most tokens for an answer of about `words` words.

    The embedded model rambles. For others the words in the prompt do: thinking counts as an answer's tokens too, and
    under a limit some models would think and then say nothing.
    """
    return words * 5 if _is_embedded(model) else None


def _is_embedded(model: str | None) -> bool:
    return getattr(chat_model(model), "openai_api_base", None) == LOCAL_BASE_URL
