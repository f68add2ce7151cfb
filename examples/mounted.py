"""A FastAPI application with users, figures and an OpenAI client of its own, and workflows mounted beside them.

Run it with `uvicorn mounted:app`. The workflows are those of the langgraph.json in the working directory or above it,
else those that come with plait.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from openai import AsyncOpenAI
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest

from plait.service import create_router

USERS = {"token-of-ada": "ada", "token-of-bob": "bob"}
QUESTIONS = Counter("shop_questions", "Questions that customers asked.")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncOpenAI() as client:
        app.state.openai = client
        yield


async def current_user(authorization: Annotated[str, Header()] = "") -> str:
    """Whose request it is; the application's own routes ask the same."""
    user = USERS.get(authorization.removeprefix("Bearer "))
    if user is None:
        raise HTTPException(401, "expected a token")
    return user


app = FastAPI(title="A shop", lifespan=lifespan)


@app.get("/question")
async def question(request: Request, text: str, user: Annotated[str, Depends(current_user)]) -> dict[str, str]:
    """The application's own call of a model, through its own client: plait knows nothing of it."""
    QUESTIONS.inc()
    client: AsyncOpenAI = request.app.state.openai
    answer = await client.responses.create(model="gpt-5.4-mini", input=text)
    return {"user": user, "answer": answer.output_text}


@app.get("/metrics")
async def metrics() -> Response:
    """The application's own figures; those of the workflows are at /ai/metrics."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


app.include_router(create_router(owner=Depends(current_user)), prefix="/ai")
