"""Documents: what is read of files, folders and JSON, what is refused, and where texts are cut."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.documents import cut_text, read_documents, split_text, tell_apart
from chains.html_text import text_of_html
from plait.errors import InputError


def write(folder: Path, files: dict[str, str | bytes]) -> str:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


async def names_and_texts(source: str | list[str]) -> list[tuple[str, str]]:
    return [(document["name"], document["text"]) for document in await read_documents(source)]


async def test_a_folder_is_read_sorted_with_the_folders_below_it(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"b.md": "B", "a/z.txt": "Z", "a/y.TXT": "Y", "code.py": "x", ".git/c.txt": "C", ".d.txt": "D"}
    )
    assert await names_and_texts(folder) == [("a/y.TXT", "Y"), ("a/z.txt", "Z"), ("b.md", "B")]


async def test_a_list_of_paths_reads_each_file_once_and_tells_equal_names_apart(tmp_path: Path) -> None:
    write(tmp_path, {"one/a.txt": "first", "two/a.txt": "second"})
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert await names_and_texts([one, two, str(tmp_path / "one" / "a.txt")]) == [
        ("a.txt", "first"),
        ("a.txt (2)", "second"),
    ]


async def test_json_holds_strings_or_objects_with_a_title(tmp_path: Path) -> None:
    items = ["plain", {"text": "T", "title": "Storm"}, {"body": "B", "id": 7}, {"content": "C"}]
    write(
        tmp_path,
        {"a.json": json.dumps(items), "b.jsonl": "\n".join(json.dumps(item) for item in items[:2]) + "\n\n"},
    )
    assert await names_and_texts(str(tmp_path)) == [
        ("a.json[0]", "plain"),
        ("Storm", "T"),
        ("7", "B"),
        ("a.json[3]", "C"),
        ("b.jsonl[0]", "plain"),
        ("Storm (2)", "T"),
    ]


async def test_html_is_read_without_tags_and_scripts(tmp_path: Path) -> None:
    write(tmp_path, {"a.html": "<h1>Tide</h1><script>var x</script><p>Salt &amp; <b>sea</b> air</p>"})
    assert await names_and_texts(str(tmp_path)) == [("a.html", "Tide\n\nSalt & sea air")]
    assert text_of_html("") == ""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
async def test_marked_and_plain_unicode_is_read_without_warning(
    tmp_path: Path, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"a.txt": "naïve 雨".encode(encoding)})
    assert await names_and_texts(str(tmp_path)) == [("a.txt", "naïve 雨")]
    assert caplog.records == []


async def test_windows_1252_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, {"a.txt": "“café”".encode("cp1252")})
    assert await names_and_texts(str(tmp_path)) == [("a.txt", "“café”")]
    assert "a.txt is not UTF-8 (byte 0); read as Windows-1252" in caplog.text


async def test_unreadable_and_empty_files_of_a_folder_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(
        tmp_path,
        {"a.txt": b"\x00\x01\x02", "b.txt": " \n", "c.txt": "fine", "d.json": "{", "e.txt": b"\xff\x81", "f.json": "1"},
    )
    with caplog.at_level(logging.WARNING):
        assert await names_and_texts(str(tmp_path)) == [("c.txt", "fine")]
    assert [record.getMessage().count("left out") for record in caplog.records] == [1] * 5


@pytest.mark.parametrize(
    ("files", "named", "words"),
    [
        ({}, "missing.txt", "found nothing at .*missing.txt"),
        ({}, ".", "expected documents in .* found none"),
        ({"x.png": "x"}, ".", "expected documents in .* found none"),
        ({"a.txt": "", "b.txt": "  "}, ".", "found only empty"),
        ({"a.bin": b"\x00\x01"}, "a.bin", "found binary data in .*a.bin"),
        ({"a.txt": b"%PDF-1.7 \x81"}, "a.txt", "found binary data"),
        ({"a.txt": b"\xff\x81"}, "a.txt", "expected UTF-8 text .* byte 0"),
        ({"a.json": "[1, "}, "a.json", "expected JSON in .* line 1"),
        ({"a.json": '{"x": "y"}'}, "a.json", "objects with text, content or body"),
        ({"a.jsonl": '"fine"\n{'}, "a.jsonl", "line 2"),
        ({"a.json": "[]"}, "a.json", "expected documents in .* found none"),
    ],
)
async def test_bad_sources_are_named(tmp_path: Path, files: dict[str, str | bytes], named: str, words: str) -> None:
    write(tmp_path, files)
    with pytest.raises(InputError, match=words):
        await read_documents(str(tmp_path / named))


@pytest.mark.parametrize("source", ["", "  ", "a\0b", []])
async def test_no_path_at_all_is_refused(source: str | list[str]) -> None:
    with pytest.raises(InputError, match="expected"):
        await read_documents(source)


def test_texts_are_cut_where_they_can_be_cut_best() -> None:
    assert split_text("One one.\n\nTwo two. Two.", most_chars=16) == ["One one.", "Two two. Two."]
    assert split_text("First sentence. Second one is long.", most_chars=20) == [
        "First sentence.",
        "Second one is long.",
    ]
    assert split_text("alpha beta gamma", most_chars=11) == ["alpha beta", "gamma"]
    assert split_text("x" * 25, most_chars=10) == ["x" * 10, "x" * 10, "x" * 5]
    assert split_text(" \n ", most_chars=10) == []


@given(st.text(alphabet="ab .\n\t!", max_size=300), st.integers(1, 40))
def test_pieces_fit_and_are_the_text_again(text: str, most_chars: int) -> None:
    pieces = list(cut_text(text, most_chars=most_chars))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= most_chars for piece in pieces)
    assert all(len(piece) >= most_chars // 2 for piece in pieces[:-1])


def test_five_megabytes_without_a_line_end_are_cut() -> None:
    pieces = split_text("x" * 5_000_000, most_chars=12_000)
    assert len(pieces) == 417
    assert sum(map(len, pieces)) == 5_000_000


def test_equal_names_never_meet_again() -> None:
    assert tell_apart(["a", "a", "a (2)", "a", "b"]) == ["a", "a (2)", "a (2) (2)", "a (3)", "b"]
