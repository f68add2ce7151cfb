"""A model writes a letter, then the workflow stops until somebody has read it."""

from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from plait import chat_model


class Order(TypedDict):
    to: str
    about: str


class Letter(Order):
    text: str
    sent: bool


async def write(state: Letter) -> dict[str, str]:
    message = await chat_model().ainvoke(f"Write a short letter to {state['to']} about {state['about']}.")
    return {"text": message.text}


async def send(state: Letter) -> dict[str, bool]:
    answer = interrupt({"question": "Send it?", "text": state["text"]})
    return {"sent": answer == "yes"}


letter = (
    StateGraph(Letter, input_schema=Order)
    .add_node(write)
    .add_node(send)
    .add_edge(START, "write")
    .add_edge("write", "send")
    .compile()
)
