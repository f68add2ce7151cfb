"""Summarizes one text, or one piece of a long one."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser

from chains.answers import answer_of, limit_of
from plait import chat_model

PROMPT = """\
You summarize texts. Write one paragraph of about {words} words that says what matters most in the text you are given:
its claims, names and numbers. Use only what the text says and its own language. Write nothing but the summary."""


async def summarize_text(
    text: str, *, words: int = 120, label: str, prompt: str | None = None, model: str | None = None
) -> str:
    """A summary of about `words` words; its tokens stream under `label`. `{words}` in a prompt becomes the number.

    Raises EmptyAnswer where the model says nothing, twice.
    """
    chain = chat_model(model, max_tokens=limit_of(words, model)) | StrOutputParser()
    instructions = (prompt or PROMPT).replace("{words}", str(words))
    question = f"Summarize this text in about {words} words:\n\n{text}"
    return await answer_of(
        chain.with_config(metadata={"label": label}), [SystemMessage(instructions), HumanMessage(question)]
    )
