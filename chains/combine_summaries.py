"""Makes one summary of several: of a text's pieces, or of several texts."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser

from chains.answers import answer_of, limit_of
from plait import chat_model

PROMPT = """\
You are given several summaries. Combine them into one summary of about {words} words that says what matters most in all
of them, in their order and their language. Use only what they say. Write nothing but the summary."""


async def combine_summaries(
    summaries: Sequence[str], *, words: int = 120, label: str, prompt: str | None = None, model: str | None = None
) -> str:
    """A summary of about `words` words; its tokens stream under `label`. `{words}` in a prompt becomes the number.

    Raises EmptyAnswer where the model says nothing, twice.
    """
    chain = chat_model(model, max_tokens=limit_of(words, model)) | StrOutputParser()
    instructions = (prompt or PROMPT).replace("{words}", str(words))
    listed = "\n\n".join(f"Summary {number}: {summary}" for number, summary in enumerate(summaries, start=1))
    question = f"Combine these into one summary of about {words} words:\n\n{listed}"
    return await answer_of(
        chain.with_config(metadata={"label": label}), [SystemMessage(instructions), HumanMessage(question)]
    )
