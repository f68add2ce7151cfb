"""Plans research: splits a topic into questions that can be answered at the same time."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from chains.structured_answer import structured_answer

PROMPT = """\
You plan research. Split the topic into questions that together cover it.
Each question is answered by somebody else, alone and at the same time as the others: it names what it is about, can be
understood without the others, and does not overlap with them."""


Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Plan(BaseModel):
    questions: Annotated[list[Question], Field(min_length=1)]


async def plan_research(
    topic: str, *, questions: int = 3, prompt: str | None = None, model: str | None = None
) -> list[str]:
    """At most `questions` different questions. Raises UnusableAnswer where the model gives none, asked twice."""
    request = f"Topic: {topic}\nQuestions: exactly {questions}"
    plan = await structured_answer(prompt or PROMPT, request, Plan, label="plan", model=model)
    different = {" ".join(question.casefold().split()): question for question in reversed(plan.questions)}
    return list(reversed(different.values()))[:questions]
