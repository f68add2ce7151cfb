"""Turns what workflows return (messages, models, dataclasses, anything) into JSON and into text that a person reads."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from uuid import UUID

from pydantic import BaseModel

from plait.cli.masking import masked

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

# Control characters but tab and newline: an answer must not move the cursor or set the terminal's title.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TITLE_KEYS = ("label", "name", "title", "id", "topic", "question", "key")
_TEXT_KEYS = ("text", "answer", "content", "result", "output")
_MOST_DEPTH = 100


def to_json(value: object, depth: int = 0) -> Json:
    """The value as JSON can say it; what JSON has no word for becomes its text."""
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, enum.Enum):
        return to_json(value.value, depth)
    if depth >= _MOST_DEPTH:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, BaseModel):
        return _model(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, PurePath | UUID):
        return [to_json(item, depth + 1) for item in value]
    if isinstance(value, BaseException):
        return masked(f"{type(value).__name__}: {value}")
    return str(value)


def _model(value: BaseModel, depth: int) -> Json:
    fields = {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})
    if _is_message(value):
        # A message's empty fields say nothing, and providers' raw metadata would drown its text.
        hidden = {"response_metadata", "additional_kwargs", "example"}
        fields = {
            k: v for k, v in fields.items() if (k not in hidden and v not in (None, "", [], {})) or k == "content"
        }
    return to_json(fields, depth + 1)


def dumps(value: object, *, indent: int | None = None) -> str:
    """`to_json` as text."""
    return json.dumps(to_json(value), ensure_ascii=False, indent=indent)


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
        if isinstance(value, list | tuple) and value and all(_is_message(item) for item in value):
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
    if _is_message(value):
        return _message_text(value)
    found = to_json(value)
    if isinstance(found, str):
        return found
    if isinstance(found, list) and all(isinstance(item, str | int | float) for item in found):
        return "\n".join(f"- {item}" for item in found)
    return json.dumps(found, ensure_ascii=False, indent=2)


def _is_message(value: object) -> bool:
    return isinstance(value, BaseModel) and {"content", "type"} <= type(value).model_fields.keys()


def _message_text(value: object) -> str:
    content = getattr(value, "content", "")
    if isinstance(content, str):
        return content
    return "".join(
        part if isinstance(part, str) else str(part.get("text", "")) if isinstance(part, dict) else ""
        for part in content
    )
