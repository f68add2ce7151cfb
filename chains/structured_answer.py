"""Asks a model for an answer of a given shape, and once more where it cannot be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ValidationError

from plait import PlaitError, chat_model

Shape = TypeVar("Shape", bound=BaseModel)

FORMAT = "Answer with one JSON object and nothing else. Its JSON schema: {schema}"
AGAIN = "This could not be read: {reason}. Answer again, with the JSON object and nothing else."


class UnusableAnswer(PlaitError):
    """A model answered with nothing, or with something else than it was asked for, again and again."""


async def structured_answer(
    instructions: str, request: str, shape: type[Shape], *, label: str, model: str | None = None
) -> Shape:
    """The model's answer as a `shape`. JSON in text, because every endpoint knows it and none needs to be told how.

    Its tokens are kept out of the stream: half a JSON object is nothing to read. Raises UnusableAnswer after the second
    answer that has not the shape.
    """
    schema = json.dumps(shape.model_json_schema())
    chain = chat_model(model).with_config(tags=["nostream"], metadata={"label": label})
    messages: list[BaseMessage] = [
        SystemMessage(f"{instructions}\n\n{FORMAT.format(schema=schema)}"),
        HumanMessage(request),
    ]
    text, reason = "", ""
    for _ in range(2):
        text = str((await chain.ainvoke(messages)).text)
        try:
            return read_answer(text, shape)
        except ValueError as error:
            reason = str(error)
        # Some endpoints refuse a turn without text.
        messages += [AIMessage(text.strip() or "(nothing)"), HumanMessage(AGAIN.format(reason=reason))]
    raise UnusableAnswer(
        f"{label}: expected JSON of the shape {shape.__name__}, found none in two answers ({reason}); the last began "
        f"with {text.strip()[:80]!r}: name a model that follows the format, or change the prompt"
    )


def read_answer(text: str, shape: type[Shape]) -> Shape:
    """The first JSON object of the text that has the shape, whatever stands around it (a fence, a chain of thought).

    Raises ValueError with the reason, in words that the model can act on.
    """
    decoder, reason, start = json.JSONDecoder(), "there is no JSON object in it", 0
    while (start := text.find("{", start)) >= 0:
        try:
            found, start = decoder.raw_decode(text, start)
            return shape.model_validate(found)
        except ValidationError as error:
            reason = _reasons(error)
        except json.JSONDecodeError as error:
            reason, start = f"it is not JSON: {error}", start + 1
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
    raise ValueError(reason)


def _reasons(error: ValidationError) -> str:
    found: Sequence[str] = [
        f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}".removeprefix(": ") for detail in error.errors()
    ]
    return "; ".join(found)
