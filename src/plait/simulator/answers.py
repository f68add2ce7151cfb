"""What the model says: what is scripted, else text, a tool call or JSON made from what is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plait.errors import SettingsError
from plait.simulator.behaviours import Body, ToolCall
from plait.simulator.instances import instance
from plait.simulator.prompts import forced_tool, last_user_message, max_tokens, wanted_schema

Answering = Callable[[Body], str | Sequence[ToolCall] | None]
"""From a request's body to the answer's text or tool calls; None: as if nothing were scripted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request is answered with."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    cut: bool = False
    """The text reached max_tokens before its end."""

    @property
    def tokens(self) -> int:
        """Words of the text and of the calls' arguments."""
        return len(self.text.split()) + sum(len(json.dumps(arguments).split()) for _, arguments in self.tool_calls)


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one exchange."""

    prompt: int
    completion: int
    cached: int = 0
    """Of the prompt's."""


@dataclass(frozen=True, slots=True)
class Reply:
    """All that the shapes of the APIs need to know."""

    body: Body
    id: str
    created: int
    answer: Answer
    usage: Usage


def scripted(rules: Sequence[tuple[str, str]]) -> Answering:
    """The text of the first (regex, text) found in the last user message; the text may use its groups: \\1, \\g<name>.

    Raises SettingsError for a regex or a text that is none.
    """
    compiled = []
    for pattern, text in rules:
        try:
            compiled.append((re.compile(pattern, re.IGNORECASE), text))
            re.compile(f"{pattern}|").sub(text, "")
        except (re.error, IndexError) as error:
            raise SettingsError(f"answer {pattern}={text}: expected a regular expression and a text: {error}") from None

    def answer(body: Body) -> str | None:
        question = last_user_message(body)
        return next((found.expand(text) for rule, text in compiled if (found := rule.search(question))), None)

    return answer


def answer_to(body: Body, answering: Answering | None, tool_calls: Sequence[ToolCall] = ()) -> Answer:
    """The answer: the calls that are prescribed, else what `answering` says, else what the body makes of itself."""
    if tool_calls:
        return Answer(tool_calls=tuple(tool_calls))
    found = answering(body) if answering is not None else None
    if found is None:
        found = _unscripted(body)
    if not isinstance(found, str):
        return Answer(tool_calls=tuple(found))
    most = max_tokens(body)
    if most is not None and len(pieces := pieces_of(found)) > most:
        return Answer("".join(pieces[:most]).rstrip(), cut=True)
    return Answer(found)


def _unscripted(body: Body) -> str | Sequence[ToolCall]:
    text = f"Answer to: {last_user_message(body)}"
    if tool := forced_tool(body):
        return [(tool[0], instance({"type": "object", "properties": {}, **tool[1]}, text))]
    schema = wanted_schema(body)
    if schema is None:
        return text
    return json.dumps(instance(schema, text) if schema else {"answer": text})


def pieces_of(text: str) -> list[str]:
    """The tokens as a stream sends them, with the space around them."""
    return re.findall(r"\s*\S+\s*", text)
