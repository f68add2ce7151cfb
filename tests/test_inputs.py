"""Which inputs a graph takes, and what is said about wrong ones, for every kind of schema LangGraph has."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired

import pytest
import typing_extensions
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.managed import RemainingSteps
from pydantic import BaseModel, Field, StringConstraints, model_validator
from typing_extensions import TypedDict

from plait.errors import InputError
from plait.inputs import InputField, check_context, check_inputs, input_fields


class Tone(Enum):
    WARM = "warm"
    DRY = "dry"


class Opaque:
    """A type pydantic knows nothing about."""


class Input(TypedDict):
    topic: Annotated[str, StringConstraints(min_length=1), "what the story is about"]
    words: NotRequired[Annotated[int, Field(ge=1, description="how long it gets")]]


class State(Input):
    story: str


class ListState(TypedDict):
    topics: Annotated[list[str], operator.add]
    tone: Literal["warm", "dry"]
    mood: Tone
    size: int | None
    opaque: Opaque
    steps: RemainingSteps
    data: dict[str, int]
    nested: NotRequired[list[list[int]]]


class ModelInput(BaseModel):
    topic: str = Field(min_length=2, description="what it is about")
    words: int = Field(default=100, le=500)
    tags: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _topic_fits(self) -> ModelInput:
        if len(self.topic) > self.words:
            raise ValueError("the topic is longer than the story")
        return self


@dataclass
class DataState:
    topic: str
    words: int = 100
    tags: list[str] = field(default_factory=list)
    hidden: int = field(default=0, init=False)


class ModelContext(BaseModel):
    model: str
    retries: int = 2


class TypedContext(TypedDict, total=False):
    model: str


class MixedMessages(MessagesState):
    count: int


class OtherInput(typing_extensions.TypedDict):
    topic: typing_extensions.Required[typing_extensions.ReadOnly[str]]


class Chosen(TypedDict):
    choices: Annotated[list[str], Field(min_length=1)]


class UnionState(TypedDict):
    a: int | list[int]


def graph(state: Any, **schemas: Any) -> Any:
    def node(given: Any) -> dict[str, Any]:
        return {}

    builder: Any = StateGraph(state, **schemas)
    return builder.add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()


STORY = graph(State, input_schema=Input)
LISTS = graph(ListState)


def wrong(of: Any, values: dict[str, object]) -> list[str]:
    with pytest.raises(InputError) as raised:
        check_inputs(of, values, workflow="story")
    return str(raised.value).splitlines()


def test_an_input_schema_is_listed_with_types_descriptions_and_what_is_required() -> None:
    assert input_fields(STORY) == [
        InputField("topic", "str", True, "what the story is about"),
        InputField("words", "int", False, "how long it gets"),
    ]


def test_types_are_short() -> None:
    types = {item.name: item.type for item in input_fields(LISTS)}
    assert types == {
        "topics": "list[str]",
        "tone": "'warm' | 'dry'",
        "mood": "'warm' | 'dry'",
        "size": "int | None",
        "opaque": "Opaque",
        "data": "dict[str, int]",
        "nested": "list[list[int]]",
    }
    assert not any(item.required for item in input_fields(LISTS))


@pytest.mark.parametrize("of", [graph(State, input_schema=ModelInput), graph(DataState)])
def test_classes_show_their_defaults(of: Any) -> None:
    shown = {item.name: (item.required, item.default) for item in input_fields(of)}
    assert shown == {"topic": (True, None), "words": (False, "100"), "tags": (False, "[]")}


def test_text_from_a_command_line_becomes_the_type() -> None:
    assert check_inputs(STORY, {"topic": "x", "words": "100"}, workflow="story") == {
        "topic": "x",
        "words": 100,
    }
    checked = check_inputs(LISTS, {"mood": "dry", "size": "3", "tone": "warm"}, workflow="lists")
    assert checked == {"mood": Tone.DRY, "size": 3, "tone": "warm"}


def test_every_wrong_field_has_its_line() -> None:
    assert wrong(STORY, {"words": "many", "topicc": "a"}) == [
        "topic: missing (str: what the story is about)",
        "words: expected int, found 'many'",
        "topicc: no such input; did you mean 'topic'?",
    ]
    assert wrong(STORY, {"topic": "a", "zzz": 1}) == ["zzz: no such input; inputs of story: topic, words"]


def test_constraints_are_enforced() -> None:
    assert wrong(STORY, {"topic": ""}) == ["topic: expected at least 1 character, found ''"]
    assert wrong(STORY, {"topic": "a", "words": 0}) == ["words: expected greater than or equal to 1, found 0"]
    assert wrong(graph(State, input_schema=Chosen), {"choices": []}) == ["choices: expected at least 1 item, found []"]
    assert wrong(STORY, {"topic": 5}) == ["topic: expected str, found 5"]


def test_lists_and_objects_say_how_the_command_line_spells_them() -> None:
    assert wrong(LISTS, {"topics": "a"}) == ["topics: expected list[str], found 'a'; write topics:='[\"a\"]'"]
    assert wrong(LISTS, {"topics": '["a", "b"]'})[0].endswith('; write topics:=\'["a", "b"]\'')
    assert wrong(LISTS, {"data": "a"})[0].endswith('write data:=\'{"key": "value"}\'')


def test_the_place_in_a_list_is_named() -> None:
    assert wrong(LISTS, {"topics": ["a", 3]}) == ["topics[1]: expected a valid string, found 3"]
    assert wrong(LISTS, {"nested": [[1], [2, "x"]]})[0].startswith("nested[1][1]: expected a valid integer")


def test_choices_and_unions_are_shown_whole() -> None:
    assert wrong(LISTS, {"tone": "loud"}) == ["tone: expected 'warm' | 'dry', found 'loud'"]
    assert wrong(LISTS, {"mood": "loud"}) == ["mood: expected 'warm' | 'dry', found 'loud'"]
    assert wrong(graph(UnionState), {"a": "x"}) == ["a: expected int | list[int], found 'x'"]


def test_a_state_schema_requires_nothing_but_refuses_unknown_names() -> None:
    assert check_inputs(LISTS, {}, workflow="lists") == {}
    assert wrong(LISTS, {"topcis": ["a"]}) == ["topcis: no such input; did you mean 'topics'?"]
    assert wrong(LISTS, {"steps": 3})[0].startswith("steps: no such input")


def test_a_state_that_langgraph_makes_an_object_of_requires_its_fields() -> None:
    of = graph(DataState)
    with pytest.raises(TypeError):
        of.invoke({"words": 3})
    assert wrong(of, {"words": 3}) == ["topic: missing (str)"]


def test_types_pydantic_does_not_know_pass() -> None:
    opaque = Opaque()
    assert check_inputs(LISTS, {"opaque": opaque}, workflow="lists")["opaque"] is opaque


def test_a_pydantic_input_is_validated_as_a_whole() -> None:
    of = graph(State, input_schema=ModelInput)
    assert check_inputs(of, {"topic": "ab"}, workflow="story") == {"topic": "ab"}
    assert wrong(of, {"topic": "abc", "words": "2"}) == ["input: the topic is longer than the story"]
    assert wrong(of, {"topic": "a", "words": 501}) == [
        "topic: expected at least 2 characters, found 'a'",
        "words: expected less than or equal to 500, found 501",
    ]


def test_messages_are_left_to_langgraph() -> None:
    for messages in ("hi", [("user", "hi")], [{"role": "user", "content": "hi"}]):
        assert check_inputs(graph(MixedMessages), {"messages": messages}, workflow="chat") == {"messages": messages}
    assert wrong(graph(MixedMessages), {"count": "x"}) == ["count: expected int, found 'x'"]


def test_an_agent_needs_messages() -> None:
    agent = create_agent(FakeListChatModel(responses=["hi"]), tools=[])
    assert next((item.name, item.required) for item in input_fields(agent)) == ("messages", True)
    assert wrong(agent, {}) == ["messages: missing (list[message])"]
    assert check_inputs(agent, {"messages": "hi"}, workflow="agent") == {"messages": "hi"}


def test_a_typeddict_of_typing_extensions_is_read() -> None:
    assert input_fields(graph(State, input_schema=OtherInput)) == [InputField("topic", "str", True)]


def test_functional_graphs_are_checked_where_they_are_annotated() -> None:
    @entrypoint()
    def typed(inputs: Input) -> str:
        return inputs["topic"]

    @entrypoint()
    async def loose(inputs):  # type: ignore[no-untyped-def]
        return inputs

    @entrypoint()
    async def numbers(inputs: dict[str, int]) -> int:
        return sum(inputs.values())

    @entrypoint()
    async def bare(topic: str) -> str:
        return topic

    assert wrong(typed, {}) == ["topic: missing (str: what the story is about)"]
    assert [item.name for item in input_fields(typed)] == ["topic", "words"]
    assert check_inputs(loose, {"any": 1}, workflow="loose") == {"any": 1}
    assert check_inputs(numbers, {"a": "1"}, workflow="numbers") == {"a": 1}
    assert wrong(numbers, {"a": "x"}) == ["a: expected dict[str, int] as the input of story, found 'x'"]
    assert wrong(bare, {"topic": "x"}) == ["expected str as the input of story, found {'topic': 'x'}"]
    assert input_fields(bare) == input_fields(loose) == []


def test_a_state_without_names_gets_the_values_as_they_are() -> None:
    of = graph(Annotated[dict, operator.or_])
    assert input_fields(of) == []
    assert check_inputs(of, {"a": 1}, workflow="root") == {"a": 1}


@pytest.mark.parametrize("schema", [ModelContext, TypedContext])
def test_a_context_is_checked_like_the_inputs(schema: Any) -> None:
    of = graph(State, context_schema=schema)
    assert check_context(of, {"model": "m"}) == {"model": "m"}
    assert check_context(of, {}) == {}
    with pytest.raises(InputError, match=r"^modle: no such context value; did you mean 'model'\?$"):
        check_context(graph(State, context_schema=TypedContext), {"modle": "m"})


def test_a_context_has_its_missing_and_mistyped_values_named() -> None:
    with pytest.raises(InputError) as raised:
        check_context(graph(State, context_schema=ModelContext), {"retries": "x"})
    assert str(raised.value) == "model: missing (str)\nretries: expected int, found 'x'"


def test_a_context_for_a_graph_without_one_is_refused() -> None:
    with pytest.raises(InputError, match="no context schema"):
        check_context(STORY, {"model": "m"})
