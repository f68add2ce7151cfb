"""Answers one question."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser

from chains.answers import answer_of
from plait import chat_model

PROMPT = "Answer in one short paragraph. Say so when you do not know."


async def answer_question(question: str, *, label: str, prompt: str | None = None, model: str | None = None) -> str:
    """A short answer; its tokens stream under `label`. Raises EmptyAnswer."""
    chain = chat_model(model) | StrOutputParser()
    return await answer_of(
        chain.with_config(metadata={"label": label}), [SystemMessage(prompt or PROMPT), HumanMessage(question)]
    )
