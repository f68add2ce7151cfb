"""A workflow as a chat model: its inputs from messages, its answer as text, and which of its tokens are that answer.

What comes out is the same text streamed or not. A workflow's steps say more than its answer (plans, drafts, reviews,
several branches at once), and a chat has one speaker. So tokens are streamed of one speaker at a time, of nodes that
the graph can end with and that are not fanned out, unless they speak JSON; what the answer holds beyond that is said at
the end. Only where such a node says more than its last message (an agent between two tool calls) the stream has more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

from langchain_core.messages import convert_to_messages

from plait.errors import InputError
from plait.inputs import check_inputs, input_fields
from plait.schemas import InputField
from plait.service.graphs import Graph
from plait.service.json_texts import dumps, loads, plain

Message = Mapping[str, object]
"""As OpenAI's API has it: `role`, `content`, ..."""

_TEXT_NAMES = ("text", "answer", "output", "result", "content")
"""Which of several texts is the answer."""
_APART = "\n\n"
_FENCED = "```json"


def inputs_for(
    graph: Graph, workflow: str, messages: Sequence[Message], given: Mapping[str, object] | None
) -> dict[str, object]:
    """The workflow's inputs, checked.

    What is `given` by name is taken as it is. A graph with an input `messages` gets all messages; one whose only
    required input is a text (or whose only text is, where nothing is required) gets the last user message; any other
    the JSON object that the last user message is. Raises InputError, which says what the workflow needs.
    """
    fields = input_fields(graph)
    _check_messages(messages)
    if any(field.name == "messages" for field in fields):
        values = {"messages": [dict(message) for message in messages], **(given or {})}
    elif given is not None:
        values = dict(given)
    elif (only := _only_text(fields)) is not None:
        values = {only: _last_user_text(messages)}
    else:
        values = _object_in(_last_user_text(messages), fields, workflow)
    checked: dict[str, object] = plain(check_inputs(graph, values, workflow=workflow))
    return checked


def text_of(outputs: object, inputs: Mapping[str, object]) -> str:
    """The answer among a run's outputs (as JSON): the last AI message, else the only text, else all of it as JSON."""
    if isinstance(outputs, str):
        return outputs
    if not isinstance(outputs, Mapping):
        return dumps(outputs).decode()
    if (said := _last_answer(outputs.get("messages"))) is not None:
        return said
    texts = {name: value for name, value in outputs.items() if isinstance(value, str) and name not in inputs}
    if len(texts) == 1:
        return next(iter(texts.values()))
    name = next((name for name in _TEXT_NAMES if name in texts), None)
    return texts[name] if name is not None else dumps(outputs).decode()


class Speech:
    """Decides, event by event, what of a run is said at once; see the module's docstring."""

    def __init__(self, speakers: frozenset[str]) -> None:
        self._speakers = speakers
        self._branch: str | None = None
        self._message: str | None = None
        self._earlier: set[str] = set()
        self._held: str | None = ""
        self._mute = False
        self._confused = False
        self._said: list[str] = []

    def token(self, branch: str, message_id: str, text: str) -> str:
        """What to say now that a model has said this."""
        if self._confused or not self._may_speak(branch):
            return ""
        if message_id != self._message:
            if message_id in self._earlier:
                # One node asks two models at once: they cannot be told apart in one text.
                self._confused = True
                return ""
            self._message, self._branch, self._held, self._mute = message_id, branch, "", False
            self._earlier.add(message_id)
        return self._say(text)

    def finished(self, branch: str) -> None:
        """A node is done: another one may speak."""
        if branch == self._branch:
            self._branch = None

    def rest(self, answer: str) -> str:
        """What of the answer was not said yet."""
        said = "".join(self._said)
        answer = answer if said else answer.lstrip()
        if answer.startswith(said):
            return answer[len(said) :]
        if said.rstrip().endswith(answer.strip()):
            return ""
        return _APART + answer

    def _may_speak(self, branch: str) -> bool:
        if self._branch is not None:
            return branch == self._branch
        return "[" not in branch and branch.partition("/")[0] in self._speakers

    def _say(self, text: str) -> str:
        if self._mute:
            return ""
        if self._held is not None:
            self._held += text
            begun = self._held.lstrip()
            if _FENCED.startswith(begun):  # or nothing yet
                return ""
            # What is meant for a program (a decision, a record) is no part of a conversation.
            self._mute = begun.startswith(("{", "[", _FENCED))
            if self._mute:
                return ""
            self._held, text = None, begun
            if self._said:
                text = _APART + text
        self._said.append(text)
        return text


def _check_messages(messages: Sequence[Message]) -> None:
    try:
        convert_to_messages([dict(message) for message in messages])
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise InputError(f"messages: expected messages such as {{'role': 'user', 'content': ...}}: {error}") from error


def _only_text(fields: Sequence[InputField]) -> str | None:
    wanted = [field for field in fields if field.required]
    texts = [field.name for field in wanted or fields if field.type == "str"]
    return texts[0] if len(texts) == 1 and (len(wanted) == 1 or not wanted) else None


def _last_user_text(messages: Sequence[Message]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            return _text(message.get("content"))
    raise InputError("messages: expected at least one of the role user, found none: say what the workflow is to do")


def _object_in(text: str, fields: Sequence[InputField], workflow: str) -> dict[str, object]:
    try:
        found = loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return cast("dict[str, object]", found)
    needs = ", ".join(f"{field.name} ({field.type}{'' if field.required else ', optional'})" for field in fields)
    example = json.dumps({field.name: _sample(field.type) for field in fields if field.required} or {"name": "..."})
    raise InputError(
        f"messages: the workflow {workflow} needs {needs or 'its inputs by name'}: send them as a JSON object in the "
        f'last user message, such as {example}, or as "inputs" in the request (extra_body={{"inputs": {{...}}}})'
    )


def _sample(kind: str) -> object:
    if kind.startswith(("list", "tuple", "set")):
        return ["..."]
    return {"...": "..."} if kind.startswith("dict") else {"int": 1, "float": 0.5, "bool": True}.get(kind, "...")


def _last_answer(messages: object) -> str | None:
    if not isinstance(messages, list):
        return None
    for message in reversed(messages):
        if isinstance(message, Mapping) and (message.get("type") == "ai" or message.get("role") == "assistant"):
            return _text(message.get("content"))
    return None


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str | dict)]
    return "".join(part for part in parts if isinstance(part, str))
