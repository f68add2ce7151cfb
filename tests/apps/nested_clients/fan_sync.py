"""A fan-out into subgraphs that fan out into sync nodes, each with a client of its own."""

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from states import Inner, InnerInput, Input, Outer, Output, Question, to_questions, to_subgraphs


def ask(question: Question) -> dict:
    answer = ChatOpenAI(model="m").invoke(question["text"])
    return {"answers": [answer.text]}


subgraph = (
    StateGraph(Inner, input_schema=InnerInput, output_schema=Output)
    .add_node("ask", ask)
    .add_conditional_edges(START, to_questions, ["ask"])
    .add_edge("ask", END)
    .compile()
)

graph = (
    StateGraph(Outer, input_schema=Input, output_schema=Output)
    .add_node("subgraph", subgraph)
    .add_conditional_edges(START, to_subgraphs, ["subgraph"])
    .add_edge("subgraph", END)
    .compile()
)
