"""Writes one short story about a topic."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser

from chains.answers import answer_of, limit_of
from plait import chat_model

PROMPT = "You are a storyteller. You write vivid, simple prose and nothing but the story."


async def write_story(topic: str, *, words: int = 150, prompt: str | None = None, model: str | None = None) -> str:
    """A story of about `words` words; its tokens stream under the topic as their label. Raises EmptyAnswer."""
    chain = chat_model(model, max_tokens=limit_of(words, model)) | StrOutputParser()
    wish = f"Write a story of about {words} words about {topic}."
    return await answer_of(
        chain.with_config(metadata={"label": topic}), [SystemMessage(prompt or PROMPT), HumanMessage(wish)]
    )
