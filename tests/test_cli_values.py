"""Results as JSON and as text: what workflows return, made readable."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from plait.cli.values import sections, to_text
from plait.json_values import dumps, to_json


class Verdict(BaseModel):
    score: float
    why: str


@dataclass
class Place:
    x: int
    file: Path


def text(outputs: object, inputs: dict[str, object] | None = None) -> str:
    return to_text(sections(outputs, inputs))


def test_models_dataclasses_and_messages_become_objects() -> None:
    found = to_json(
        {"verdict": Verdict(score=0.5, why="x"), "place": Place(1, Path("a")), "said": AIMessage("hi", id="7")}
    )
    assert found == {
        "verdict": {"score": 0.5, "why": "x"},
        "place": {"x": 1, "file": "a"},
        "said": {"content": "hi", "type": "ai", "id": "7"},
    }


def test_what_json_has_no_word_for_becomes_text_or_null() -> None:
    found = json.loads(dumps({"nan": float("nan"), "raw": b"\x00", "error": ValueError("no"), "set": {1}}))
    assert found == {"nan": None, "raw": "AA==", "error": "ValueError: no", "set": [1]}


def test_a_value_that_holds_itself_does_not_end_in_a_crash() -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    assert json.loads(dumps(loop))


def test_one_output_is_just_its_text() -> None:
    assert text({"story": "Once.\nTwice."}) == "Once.\nTwice."
    assert text("Once.") == "Once."


def test_several_outputs_have_headings() -> None:
    assert text({"title": "T", "body": "B"}) == "## title\nT\n\n## body\nB"


def test_state_that_repeats_the_input_is_left_out() -> None:
    assert text({"topic": "cats", "joke": "Meow."}, {"topic": "cats"}) == "Meow."
    assert text({"topic": "cats"}, {"topic": "cats"}) == "cats"


def test_a_list_of_objects_is_titled_by_its_label_and_shows_errors_in_place() -> None:
    stories = [{"topic": "a", "story": "A.", "error": None}, {"topic": "b", "story": None, "error": "refused"}]
    assert text({"stories": stories}) == "## a\nA.\n\n## b\nerror: refused"


def test_an_object_of_objects_is_titled_by_its_keys() -> None:
    answers = {"sky": {"question": "why?", "answer": "air", "error": None}}
    assert text({"answers": answers}) == "air"
    answers["sea"] = {"question": "how?", "answer": "salt", "error": None}
    assert text({"answers": answers}) == "## sky: why?\nair\n\n## sea: how?\nsalt"


def test_a_conversation_is_shown_by_its_last_message() -> None:
    assert text({"messages": [HumanMessage("hi"), AIMessage([{"type": "text", "text": "hello"}])]}) == "hello"


def test_control_characters_of_an_answer_do_not_reach_the_terminal() -> None:
    assert text({"a": "red \x1b[31malert\x07\ttab"}) == "red [31malert\ttab"
