"""The command line's values: key=value, key:=json, key=@file, --input and --output."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.cli.arguments import parse, read_object, writable_target
from plait.errors import InputError


def test_a_value_is_text_up_to_its_end() -> None:
    assert parse(["topic=a = b := c", "empty="]) == {"topic": "a = b := c", "empty": ""}


def test_a_value_after_colon_equals_is_json() -> None:
    assert parse(['topics:=["a", "b"]', "n:=3", "on:=true"]) == {"topics": ["a", "b"], "n": 3, "on": True}


def test_a_value_after_equals_at_is_the_text_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "topic.txt").write_bytes("﻿Straße\n".encode())
    assert parse([f"topic=@{tmp_path / 'topic.txt'}"]) == {"topic": "Straße\n"}


def test_the_last_value_of_a_key_wins() -> None:
    assert parse(["topic=a", "topic=b"]) == {"topic": "b"}


def test_every_wrong_word_has_its_line() -> None:
    with pytest.raises(InputError) as caught:
        parse(["topic", "n:={", "text=@/no/such/file", "ok=1"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "expected key=value" in lines[0]
    assert "found 'topic'" in lines[0]
    assert lines[1].startswith("n: expected JSON after :=")
    assert "line 1, column 2" in lines[1]
    assert lines[2].startswith("text: cannot read '/no/such/file': No such file or directory")


def test_a_file_that_is_not_utf_8_is_refused_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"expected UTF-8 text .* found byte 0xe9 at offset 3"):
        parse([f"text=@{tmp_path / 'latin'}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected a JSON object in .*, found an array"),
        ("3", "expected a JSON object in .*, found a number"),
        ('{"a": 1,}', "line 1, column"),
    ],
)
def test_an_input_file_must_be_a_json_object(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "in.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_object(str(tmp_path / "in.json"))


def test_an_output_needs_a_folder_that_can_be_written(tmp_path: Path) -> None:
    assert writable_target(str(tmp_path / "out.json")) == tmp_path.resolve() / "out.json"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="there is no folder"):
        writable_target(str(tmp_path / "none" / "out.json"))
    with pytest.raises(InputError, match="it is a folder"):
        writable_target(str(tmp_path))
    with pytest.raises(InputError, match="no regular file"):
        writable_target("/dev/null")
