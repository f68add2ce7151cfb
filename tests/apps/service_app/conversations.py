"""Conversations with a fake chat model that says back what it heard, and one without any model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCallChunk, ToolMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph


class EchoModel(BaseChatModel):
    """Answers `You said: <the last message>`, a word at a time; asked to `call`, it calls a tool."""

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        heard = str(messages[-1].text)
        if heard == "call":
            yield _part("", name="look", args='{"at": ', call_id="call-1")
            yield _part("", name=None, args='"cats"}', call_id=None)
            used = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
            yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=used))
            return
        for position, word in enumerate(f"You said: {heard}".split(" ")):
            text = word if position == 0 else f" {word}"
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))


def _part(text: str, *, name: str | None, args: str, call_id: str | None) -> ChatGenerationChunk:
    call = ToolCallChunk(name=name, args=args, id=call_id, index=0, type="tool_call_chunk")
    return ChatGenerationChunk(message=AIMessageChunk(content=text, tool_call_chunks=[call]))


async def answer(state: MessagesState) -> dict[str, list[BaseMessage]]:
    return {"messages": [await EchoModel().ainvoke(state["messages"])]}


echo = (
    StateGraph(MessagesState)
    .add_node("answer", answer)
    .add_edge(START, "answer")
    .add_edge("answer", END)
    .compile(name="echo")
)


async def remark(state: MessagesState) -> dict[str, list[BaseMessage]]:
    call = {"name": "look", "args": {"at": "dogs"}, "id": "call-2", "type": "tool_call"}
    return {"messages": [AIMessage("No model said this.", id="remark-1", tool_calls=[call])]}


async def look(state: MessagesState) -> dict[str, list[BaseMessage]]:
    return {"messages": [ToolMessage("a dog", tool_call_id="call-2", id="look-1", name="look", artifact={"seen": 1})]}


remarks = (
    StateGraph(MessagesState)
    .add_node("remark", remark)
    .add_node("look", look)
    .add_edge(START, "remark")
    .add_edge("remark", "look")
    .add_edge("look", END)
    .compile(name="remarks")
)
