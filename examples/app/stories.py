"""One call of a model: a story about a topic."""

from typing import TypedDict

from langgraph.graph import START, StateGraph

from plait import chat_model


class Topic(TypedDict):
    topic: str


class Story(Topic):
    story: str


async def write(state: Story) -> dict[str, str]:
    message = await chat_model().ainvoke(f"Write a story of 50 words about {state['topic']}.")
    return {"story": message.text}


story = StateGraph(Story, input_schema=Topic).add_node(write).add_edge(START, "write").compile()
