"""Answers one question."""

from __future__ import annotations

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from plait import chat_model

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer in one short paragraph. Say so when you do not know."),
        ("human", "{question}"),
    ]
)


async def answer_question(question: str, *, label: str, model: str | None = None) -> str:
    """A short answer; its tokens stream under `label`."""
    chain = PROMPT | chat_model(model) | StrOutputParser()
    return await chain.with_config(metadata={"label": label}).ainvoke({"question": question})
