"""What is compared: one model call, made by the bare SDK, by ChatOpenAI, by LangGraph alone and by plait."""

from __future__ import annotations

import tempfile
from typing import Any, TypedDict

import httpx2
import openai
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from openai.types.chat import ChatCompletionMessageParam

from plait import settings
from plait.settings import Settings

QUESTION = "Tell a story about a magical forest."
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
KEY = "sk-benchmark"


class State(TypedDict):
    """The state of the one-call graph."""

    question: str
    answer: str


class InstantTransport(httpx2.AsyncBaseTransport):
    """Answers in process: what is left is the SDK's own cost."""

    _BODY = (
        b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
        b'"message":{"role":"assistant","content":"Answer"}}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
    )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=self._BODY)


def bare_client(base_url: str) -> openai.AsyncOpenAI:
    """The SDK as its documentation shows it."""
    return openai.AsyncOpenAI(base_url=base_url, api_key=KEY)


def instant_client() -> openai.AsyncOpenAI:
    """The SDK without any network."""
    return openai.AsyncOpenAI(api_key=KEY, http_client=httpx2.AsyncClient(transport=InstantTransport()))


def langchain_model(base_url: str) -> ChatOpenAI:
    """LangChain's model with its own default client."""
    return ChatOpenAI(model="m", base_url=base_url, api_key=lambda: KEY)


def plait_settings(base_url: str) -> Settings:
    """What a user's environment would say, with a home that leaves nothing behind."""
    return settings.from_env({"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY, "PLAIT_HOME": tempfile.gettempdir()})


def one_call_graph(model: BaseChatModel) -> CompiledStateGraph[Any, Any, Any, Any]:
    """question -> one model call -> answer."""

    async def answer(state: State) -> dict[str, str]:
        message = await model.ainvoke(state["question"])
        return {"answer": message.text}

    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile()
