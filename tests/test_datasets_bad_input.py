"""What is wrong with a dataset is said before or where it matters, with its place and what to do."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

from plait.datasets import Dataset, Selection, open_dataset
from plait.datasets.identities import content_hash
from plait.errors import InputError
from tests.test_datasets import ROWS, TOPIC, Input, read, write_jsonl, write_parquet

SKIP = Selection(on_bad_row="skip")


async def refusal(source: object, selection: Selection = Selection(), *, inputs: Sequence[Input] = ()) -> str:  # noqa: B008
    with pytest.raises(InputError) as refused:
        await read(source, selection, inputs=inputs)
    return str(refused.value)


async def skipped(source: object, *, inputs: Sequence[Input] = ()) -> tuple[list[int], Dataset]:
    dataset = open_dataset(source, SKIP, inputs=inputs)  # type: ignore[arg-type]
    return [example.position async for example in dataset.examples()], dataset


LINES = {
    b"{nonsense}": "line 2: expected a JSON object, found a mistake at character 2",
    b'["topic"]': "line 2: expected a JSON object, found an array",
    b"17": "line 2: expected a JSON object, found a number",
    b'{"topic": NaN}': "NaN and Infinity are no JSON, write null",
    b'{"topic": "caf\xe9"}': "line 2: expected UTF-8, found byte 0xe9 at offset 36; the encoding may be latin-1",
    b'{"title": "x"}': "line 2, column 'topic': missing; found title",
}


@pytest.mark.parametrize("line", LINES, ids=str)
async def test_a_bad_line_names_its_place_and_is_skipped_on_demand(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"topic": "a forest"}\n' + line + b'\n{"topic": "b"}\n')
    message = await refusal(path, inputs=TOPIC)
    assert LINES[line] in message
    assert message.startswith(f"{path}, line 2")
    assert "--on-bad-row skip" in message
    positions, dataset = await skipped(path, inputs=TOPIC)
    assert positions == [0, 2]
    assert dataset.bad_rows.count == 1
    (bad,) = dataset.bad_rows.first
    assert (bad.position, bad.place, bad.unit) == (1, 2, "line")


async def test_many_bad_rows_are_counted_and_the_first_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"topic": "a"}\n' + "x\n" * 1000)
    positions, dataset = await skipped(path)
    assert positions == [0]
    assert (dataset.bad_rows.count, len(dataset.bad_rows.first)) == (1000, 20)


async def test_a_half_written_last_line_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"topic": "a"}\n{"topic": "b')
    assert "line 2: expected a JSON object, but the file ends within it" in await refusal(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"topic": "a"}, {"topic": ', "the file ends within it"),
        ('[{"topic": "a"}', "closing ], but the file ends"),
        ('[{"topic": "a"} {"topic": "b"}]', "expected , or ] behind element 1"),
        ('[{"topic": "a"}] 3', "expected nothing behind"),
        ('[{"topic": "a"}, 3]', "element 2: expected a JSON object, found a number"),
        (
            '[{"topic": "a"}, nothing, {"topic": "more text behind"}]',
            "element 2: expected a JSON object, but found",
        ),
    ],
)
async def test_a_bad_json_array_names_the_element(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert reason in await refusal(path)
    positions, dataset = await skipped(path)
    assert (positions, dataset.bad_rows.count) == ([0], 1)


async def test_an_element_larger_than_any_buffer_is_read(tmp_path: Path) -> None:
    rows = [{"topic": "x" * 3_000_000}, {"topic": "\u00e9" * 100_000}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    assert [example.inputs for example in await read(path)] == rows


CSV = {
    "a,b\n1,2\n3\n4,5\n": "line 3, column 'a': expected 2 fields, found 1",
    "a,b\n1,2\n3,4,5\n6,7\n": "line 3, column 'b': expected 2 fields, found 3",
    'a,b\n1,2\n3,"x"y\n4,5\n': "line 3: ',' expected after '\"'",
}


@pytest.mark.parametrize("text", CSV)
async def test_a_ragged_csv_row_names_its_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert CSV[text] in await refusal(path)
    positions, _ = await skipped(path)
    assert positions == [0, 2]


async def test_a_csv_line_of_another_encoding_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n3,caf\xe9\n4,5\n")
    assert "line 3: expected UTF-8, found byte 0xe9 at offset 13" in await refusal(path)
    assert (await skipped(path))[0] == [0, 2]


async def test_a_quote_that_is_never_closed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n3,"x\n4,5\n')
    assert "a quote opened at line 3 or later is never closed" in await refusal(path)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl", b"", "found an empty file"),
        ("a.jsonl", b"\n \n", "the dataset is empty"),
        ("a.csv", b"", "found an empty file"),
        ("a.csv", b"a,b\n", "the dataset is empty"),
        ("a.csv", b"a,a\n1,2\n", "found 'a' twice"),
        ("a.csv", b"a,b\r1,2\r", "found \\r alone"),
        ("a.json", b"[]", "the dataset is empty"),
        ("a.txt", "name\n".encode("utf-16"), "iconv -f utf-16"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), "iconv -f utf-16"),
        ("a.csv", b"\x00\x01\x02\x03\x04\x05\x06\x07\x08", "found a binary file"),
        ("a.docx", b"PK\x03\x04 and so on", "found neither a known suffix nor JSON"),
        ("a", b"Ada\nGrace\n", "--format jsonl|json|csv|tsv|parquet|lines"),
        ("a.parquet", b"no parquet", "expected a Parquet file"),
    ],
)
async def test_a_file_that_is_no_dataset_is_refused_at_once(
    name: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert reason in await refusal(path)
    with pytest.raises(InputError) as refused:
        await open_dataset(path).check()
    assert reason in str(refused.value)


async def test_a_named_format_goes_before_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("Ada\nGrace\n")
    assert len(await read(path, Selection(format="lines"))) == 2


async def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "stories.jsonl")
    assert f"did you mean {tmp_path / 'stories.jsonl'}?" in await refusal(tmp_path / "storys.jsonl")
    assert "no such folder" in await refusal(tmp_path / "nowhere" / "a.jsonl")
    (tmp_path / "empty").mkdir()
    assert "without readable files" in await refusal(tmp_path / "empty")


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
async def test_a_compressed_file_that_was_cut_off_says_so(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    data = b"".join(json.dumps({"topic": content_hash({"n": n}).hex()}).encode() + b"\n" for n in range(50_000))
    packed = compress(data)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    assert "was cut off" in await refusal(path)
    positions, dataset = await skipped(path)
    assert positions[-1] > 1000
    assert "was cut off" in dataset.bad_rows.first[-1].reason
    assert await open_dataset(path).count() is None
    path.write_bytes(packed[:6])
    assert "was cut off" in await refusal(path)


async def test_a_damaged_gzip_says_so(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b'{"topic": "a"}\n' * 1000))
    packed[-6] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    assert "damaged" in await refusal(tmp_path / "a.jsonl.gz")


async def test_a_missing_column_names_the_nearest_before_anything_runs(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"topics": "a", "lang": "en"}])
    message = await refusal(path, inputs=TOPIC)
    assert "topic: no such column, did you mean 'topics'? (columns: topics, lang)" in message
    assert "--map topic=COLUMN" in message
    message = await refusal(path, Selection(mapping={"topic": "tpics", "topik": "lang"}), inputs=TOPIC)
    assert "topic: no column 'tpics', did you mean 'topics'?" in message
    assert "topik: no such input, did you mean 'topic'?" in message
    assert "id: no column 'name'; columns: topics, lang" in await refusal(path, Selection(id_column="name"))
    parquet = write_parquet(tmp_path / "a.parquet", {"topics": ["a"], "lang": ["en"]})
    assert "did you mean 'topics'?" in await refusal(parquet, inputs=TOPIC)


async def test_an_unknown_column_in_where_is_an_error_not_an_empty_result(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")
    assert "where: no column 'langs', did you mean 'lang'?" in await refusal(path, Selection(where="langs == 'en'"))
    (tmp_path / "a.csv").write_text("topic,lang\na,b\n")
    assert "where: no column 'x'" in await refusal(tmp_path / "a.csv", Selection(where="x == 1"))
    # What only some rows have is no mistake.
    chosen = await read([*ROWS, {"topic": "z", "draft": True}], Selection(where="draft"))
    assert [example.position for example in chosen] == [3]


async def test_a_duplicate_id_names_both_rows(tmp_path: Path) -> None:
    rows = [{"id": "a", "topic": "1"}, {"id": "b", "topic": "2"}, {"id": "a", "topic": "3"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    message = await refusal(path, inputs=TOPIC)
    assert "line 3, column 'id': expected an id of its own, found 'a', which line 1 has too" in message
    assert (await skipped(path, inputs=TOPIC))[0] == [0, 1]


@pytest.mark.parametrize("value", [None, "", True, {"a": 1}])
async def test_an_id_must_be_text_or_a_number(value: object) -> None:
    assert "column 'id': expected" in await refusal([{"id": value, "topic": "1"}], inputs=TOPIC)


async def test_an_object_that_is_no_row_is_a_bad_row() -> None:
    assert "row 2: expected a mapping, an Example or a text, found int" in await refusal([{"topic": "a"}, 5])
    with pytest.raises(InputError, match="expected a path or an iterable"):
        open_dataset({"topic": "a"})


class Frame(list[str]):
    """Iterates over its columns' names, as frames of pandas do."""

    columns = ("topic",)
    shape = (1, 1)


def test_a_data_frame_is_not_taken_for_lines_of_text() -> None:
    with pytest.raises(InputError, match="to_dict"):
        open_dataset(Frame(["topic"]))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"limit": 1, "sample": 1}, "found both"),
        ({"limit": 0}, "expected 1 or more"),
        ({"mapping": {"a": "b"}, "constants": {"a": 1}}, "a: expected a column or a constant"),
        ({"format": "xlsx"}, "expected one of jsonl"),
        ({"on_bad_row": "go"}, "expected stop or skip"),
    ],
)
def test_a_selection_that_contradicts_itself_is_refused(parts: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Selection.from_json(parts)


def test_langsmith_without_a_key_says_which_variable_to_set() -> None:
    with pytest.raises(InputError, match="LANGSMITH_API_KEY"):
        open_dataset("langsmith:stories")


WITHOUT_PYARROW = """
import asyncio, sys
sys.modules["pyarrow"] = None
from plait.datasets import open_dataset
asyncio.run(open_dataset(sys.argv[1]).check())
"""


async def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"topic": ["a"]})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WITHOUT_PYARROW, str(path), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert b"InputError" in errors
    assert b"pip install 'plait[parquet]'" in errors
