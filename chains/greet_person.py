"""Greets somebody in one personal sentence."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser

from chains.answers import answer_of, limit_of
from plait import chat_model

PROMPT = """\
You write one warm, simple sentence that greets a person by name, and takes up what is said about them if anything is.
Write nothing but that sentence."""


async def greet_person(name: str, *, about: str = "", prompt: str | None = None, model: str | None = None) -> str:
    """One sentence; its tokens stream under the name as their label. Raises EmptyAnswer."""
    chain = chat_model(model, max_tokens=limit_of(40, model)) | StrOutputParser()
    person = f"Write one short, friendly sentence that greets {name}." + (f"\nAbout {name}: {about}" if about else "")
    return await answer_of(
        chain.with_config(metadata={"label": name}), [SystemMessage(prompt or PROMPT), HumanMessage(person)]
    )
