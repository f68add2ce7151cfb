"""Writes one short story about a topic."""

from __future__ import annotations

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from chains.answers import limit_of
from plait import chat_model

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "You are a storyteller. You write vivid, simple prose and nothing but the story."),
        ("human", "Write a story of about {words} words about {topic}."),
    ]
)


async def write_story(topic: str, *, words: int = 150, model: str | None = None) -> str:
    """A story of about `words` words; its tokens stream under the topic as their label."""
    chain = PROMPT | chat_model(model, max_tokens=limit_of(words, model)) | StrOutputParser()
    return await chain.with_config(metadata={"label": topic}).ainvoke({"topic": topic, "words": words})
