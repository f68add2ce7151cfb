"""What the nested fan-outs pass around."""

import operator
from typing import Annotated, TypedDict

from langgraph.types import Send


class Input(TypedDict):
    n: int
    m: int


class Output(TypedDict):
    answers: Annotated[list[str], operator.add]


class Outer(Input, Output):
    pass


class InnerInput(TypedDict):
    branch: int
    m: int


class Inner(InnerInput, Output):
    pass


class Question(TypedDict):
    text: str


def to_subgraphs(state: Outer) -> list[Send]:
    return [Send("subgraph", {"branch": branch, "m": state["m"]}) for branch in range(state["n"])]


def to_questions(state: Inner) -> list[Send]:
    return [Send("ask", {"text": f"question {state['branch']}.{i}"}) for i in range(state["m"])]
