"""Turns what workflows return (messages, models, dataclasses, anything) into text that a person reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from plait.json_values import Json, is_message, to_json

# Control characters but tab and newline: an answer must not move the cursor or set the terminal's title.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TITLE_KEYS = ("label", "name", "title", "id", "topic", "question", "key")
_TEXT_KEYS = ("text", "answer", "content", "result", "output")


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of a result as shown to a person: a title above a text; one without a title is the text alone."""

    title: str
    text: str
    failed: bool = False


def sections(outputs: object, inputs: Mapping[str, object] | None = None) -> list[Section]:
    """A run's outputs as text. State that only repeats an input is left out where there is anything else."""
    if isinstance(outputs, Mapping):
        told = {
            str(k): v
            for k, v in outputs.items()
            if not (inputs is not None and k in inputs and to_json(inputs[k]) == to_json(v))
        }
        return _of_mapping(told or {str(k): v for k, v in outputs.items()})
    return [] if outputs is None else [Section("", _text(outputs))]


def only_text(parts: list[Section]) -> str | None:
    """The text, if that is all there is."""
    return parts[0].text if len(parts) == 1 and not parts[0].failed else None


def to_text(parts: list[Section]) -> str:
    """Sections as plain text: one alone is just its text, several have headings."""
    if (text := only_text(parts)) is not None:
        return clean(text).strip("\n")
    return "\n\n".join(
        clean(f"## {part.title}\n{part.text}" if part.title else part.text).strip("\n") for part in parts
    )


def clean(text: str) -> str:
    """The text without control characters."""
    return _CONTROL.sub("", text)


def _of_mapping(outputs: Mapping[str, object]) -> list[Section]:
    found: list[Section] = []
    for key, value in outputs.items():
        if isinstance(value, list | tuple) and value and all(is_message(item) for item in value):
            found.append(Section(key, _text(value[-1])))
        elif isinstance(value, list | tuple) and value and all(_title_key(to_json(item)) for item in value):
            found += [_of_item("", to_json(item)) for item in value]
        elif isinstance(value, Mapping) and value and all(isinstance(item, str) for item in value.values()):
            found += [Section(str(name), str(item)) for name, item in value.items()]
        elif isinstance(value, Mapping) and value and all(isinstance(to_json(v), dict) for v in value.values()):
            found += [_of_item(str(name), to_json(item)) for name, item in value.items()]
        else:
            found.append(Section(key, _text(value)))
    return found


def _title_key(item: Json) -> str | None:
    """The field that tells a list's elements apart."""
    if not isinstance(item, dict):
        return None
    return next((key for key in _TITLE_KEYS if isinstance(item.get(key), str)), None)


def _of_item(title: str, item: Json) -> Section:
    rest = {k: v for k, v in item.items() if v not in (None, "", [], {})} if isinstance(item, dict) else {}
    if key := _title_key(item):
        title = ": ".join(part for part in (title, str(rest.pop(key, ""))) if part)
    if (error := rest.get("error")) is not None:
        return Section(title, f"error: {_text(error)}", failed=True)
    if len(rest) == 1:
        return Section(title, _text(next(iter(rest.values()))))
    main = next((key for key in _TEXT_KEYS if isinstance(rest.get(key), str)), None)
    lines = [_text(rest.pop(main))] if main else []
    return Section(title, "\n".join(lines + [f"{key}: {_text(value)}" for key, value in rest.items()]))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if is_message(value):
        return _message_text(value)
    found = to_json(value)
    if isinstance(found, str):
        return found
    if isinstance(found, list) and all(isinstance(item, str | int | float) for item in found):
        return "\n".join(f"- {item}" for item in found)
    return json.dumps(found, ensure_ascii=False, indent=2)


def _message_text(value: object) -> str:
    content = getattr(value, "content", "")
    if isinstance(content, str):
        return content
    return "".join(
        part if isinstance(part, str) else str(part.get("text", "")) if isinstance(part, dict) else ""
        for part in content
    )
