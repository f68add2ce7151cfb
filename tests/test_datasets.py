"""Datasets of every format become examples: columns, ids, conditions, draws."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from plait.datasets import Dataset, Example, Selection, difference, open_dataset
from plait.datasets.conditions import parse_condition
from plait.datasets.fingerprints import Fingerprint
from plait.datasets.identities import content_hash
from plait.datasets.tables import Table
from plait.errors import InputError

ROWS = [{"topic": "a forest", "lang": "en"}, {"topic": "ein Wald", "lang": "de"}, {"topic": "a lake", "lang": "en"}]


class Input(NamedTuple):
    name: str
    required: bool = True


TOPIC = (Input("topic"),)


async def read(source: object, selection: Selection = Selection(), *, inputs: Sequence[Input] = ()) -> list[Example]:  # noqa: B008
    return [example async for example in open_dataset(source, selection, inputs=inputs).examples()]  # type: ignore[arg-type]


def write_jsonl(path: Path, rows: Sequence[object] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path: Path, rows: Sequence[dict[str, str]] = ROWS, delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, columns: dict[str, list[object]]) -> Path:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    pq.write_table(pa.table(columns), path)
    return path


def sources(folder: Path) -> Iterator[Path]:
    plain = write_jsonl(folder / "a.jsonl").read_bytes()
    yield folder / "a.jsonl"
    for name, data in (
        ("a.jsonl.gz", gzip.compress(plain)),
        ("a.jsonl.zst", zstandard.compress(plain)),
        ("two_frames.ndjson.zst", zstandard.compress(plain[:50]) + zstandard.compress(plain[50:])),
        ("no_suffix", plain),
        ("gzip_without_its_suffix.jsonl", gzip.compress(plain)),
        ("marked.jsonl", b"\xef\xbb\xbf" + plain),
        ("windows.jsonl", plain.replace(b"\n", b"\r\n")),
        ("no_last_newline.jsonl", plain.rstrip()),
        ("blank_lines.jsonl", plain.replace(b"\n", b"\n\n")),
        ("array.json", json.dumps(ROWS, indent=2).encode()),
        ("array.jsonl", json.dumps(ROWS).encode()),
        ("lines.json", plain),
        ("pretty.json", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()),
    ):
        (folder / name).write_bytes(data)
        yield folder / name
    yield write_csv(folder / "a.csv")
    yield write_csv(folder / "semicolons.csv", delimiter=";")
    yield write_csv(folder / "a.tsv", delimiter="\t")
    (folder / "marked.csv").write_bytes(b"\xef\xbb\xbf" + (folder / "a.csv").read_bytes())
    yield folder / "marked.csv"
    (folder / "a.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes()))
    yield folder / "a.csv.gz"
    columns: dict[str, list[object]] = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    yield write_parquet(folder / "a.parquet", columns)
    yield write_parquet(folder / "parquet_without_suffix", columns)


async def test_every_format_gives_the_same_examples_with_the_same_ids(tmp_path: Path) -> None:
    expected = await read(ROWS, inputs=TOPIC)
    assert [example.inputs for example in expected] == [{"topic": row["topic"]} for row in ROWS]
    assert [example.metadata for example in expected] == [{"lang": row["lang"]} for row in ROWS]
    assert [example.position for example in expected] == [0, 1, 2]
    for path in sources(tmp_path):
        assert await read(path, inputs=TOPIC) == expected, path.name
        assert await open_dataset(path).count() in (3, 6), path.name


async def test_without_inputs_every_column_is_an_input_and_id_is_the_id(tmp_path: Path) -> None:
    (example,) = await read([{"id": 7, "topic": "a", "lang": "en"}])
    assert example == Example(0, "7", {"topic": "a", "lang": "en"})


async def test_the_only_column_of_lines_becomes_the_only_required_input(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("Ada\n\n  Grace Hopper\n")
    examples = await read(names, inputs=(Input("name"), Input("style", required=False)))
    assert [example.inputs for example in examples] == [{"name": "Ada"}, {"name": "  Grace Hopper"}]


async def test_mapping_and_constants_fill_inputs_and_the_rest_is_metadata() -> None:
    rows = [{"title": "a", "lang": "en", "id": "x"}]
    selection = Selection(mapping={"topic": "title"}, constants={"words": 9})
    (example,) = await read(rows, selection, inputs=(Input("topic"), Input("words"), Input("lang", required=False)))
    assert example == Example(0, "x", {"topic": "a", "lang": "en", "words": 9})


async def test_constants_leave_ids_alone() -> None:
    plain = await read(ROWS, inputs=TOPIC)
    styled = await read(ROWS, Selection(constants={"style": "s"}), inputs=(*TOPIC, Input("style")))
    assert [example.id for example in styled] == [example.id for example in plain]


async def test_the_shape_of_evaluations_is_recognised() -> None:
    rows = [
        {"id": "1", "inputs": {"title": "a"}, "reference_outputs": {"story": "b"}, "metadata": {"split": "test"}},
        {"id": "2", "inputs": {"title": "c"}, "outputs": {"story": "d"}},
    ]
    first, second = await read(rows, Selection(mapping={"topic": "title"}), inputs=TOPIC)
    assert first == Example(0, "1", {"topic": "a"}, {"story": "b"}, {"split": "test"})
    assert second == Example(1, "2", {"topic": "c"}, {"story": "d"})
    chosen = await read(rows, Selection(where="split == 'test'"))
    assert [example.id for example in chosen] == ["1"]


async def test_examples_and_texts_and_async_iterables_are_read_too() -> None:
    async def rows() -> AsyncIterator[object]:
        yield Example(5, "a", {"topic": "x"}, {"y": 1})
        yield Example(6, "b", {"topic": "z"})

    dataset = open_dataset(rows(), inputs=TOPIC)
    assert not dataset.replayable
    examples = [example async for example in dataset.examples()]
    assert examples == [Example(0, "a", {"topic": "x"}, {"y": 1}), Example(1, "b", {"topic": "z"})]
    assert [example.inputs for example in await read(["x", "y"], inputs=TOPIC)] == [{"topic": "x"}, {"topic": "y"}]


async def test_a_folder_gives_its_documents_by_name_without_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b.md", "deep/a.md", ".hidden", ".git/config"):
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    examples = await read(tmp_path)
    assert [example.id for example in examples] == ["b.md", "deep/a.md", "picture.png"]
    assert examples[1].inputs == {"path": str(tmp_path / "deep/a.md"), "text": "text of deep/a.md"}
    assert "text" not in examples[2].inputs
    assert await open_dataset(tmp_path).count() == 3
    dataset = open_dataset(tmp_path, Selection(on_bad_row="skip"), inputs=(Input("text"),))
    assert len([example async for example in dataset.examples()]) == 2
    assert "picture.png: expected a text" in dataset.bad_rows.first[0].reason


async def test_quoted_newlines_and_huge_fields_of_csv_are_read(tmp_path: Path) -> None:
    rows = [{"topic": 'two\nlines, "quoted"', "lang": "x" * 300_000}, {"topic": "b", "lang": ""}]
    path = write_csv(tmp_path / "a.csv", rows)
    assert [example.inputs for example in await read(path)] == rows
    assert await open_dataset(path).count() == 2


async def test_parquet_values_become_json(tmp_path: Path) -> None:
    from datetime import date
    from decimal import Decimal

    path = write_parquet(
        tmp_path / "a.parquet",
        {
            "day": [date(2026, 1, 2)],
            "price": [Decimal("1.50")],
            "raw": [b"\xff"],
            "nan": [float("nan")],
            "nested": [{"x": [1.5]}],
        },
    )
    (example,) = await read(path)
    assert example.inputs == {"day": "2026-01-02", "price": "1.50", "raw": "/w==", "nan": None, "nested": {"x": [1.5]}}
    (example,) = await read(path, inputs=(Input("day"),))
    assert example.metadata is not None
    assert "raw" not in example.metadata


async def test_equal_contents_get_numbered_ids() -> None:
    rows = [{"topic": "a"}, {"topic": "b"}, {"topic": "a"}, {"topic": "a"}]
    ids = [example.id for example in await read(rows)]
    assert ids[2:] == [f"{ids[0]}-2", f"{ids[0]}-3"]
    assert len(ids[0]) == 16
    assert ids[0] == content_hash({"topic": "a"}).hex()


@given(
    st.lists(
        st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=3) | st.none(), max_size=4), max_size=9
    )
)
def test_a_content_hash_depends_on_the_content_alone(rows: list[dict[str, object]]) -> None:
    for row in rows:
        assert content_hash(dict(reversed(row.items()))) == content_hash(row)
    distinct = {json.dumps(row, sort_keys=True) for row in rows}
    assert len({content_hash(row) for row in rows}) == len(distinct)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(limit=7),
        Selection(sample=7, seed=3),
        Selection(where="n > 20"),
        Selection(where="n > 20", limit=2),
        Selection(sample=5, where="n < 30"),
    ],
    ids=str,
)
async def test_ids_and_positions_do_not_depend_on_what_is_selected(selection: Selection, tmp_path: Path) -> None:
    # Half of the contents come twice, so that numbered ids are among them.
    rows = [{"topic": f"t{n % 25}", "n": n} for n in range(50)]
    everything = {example.position: example for example in await read(rows, inputs=TOPIC)}
    for source in (rows, iter(rows), write_jsonl(tmp_path / "rows.jsonl", rows)):
        chosen = await read(source, selection, inputs=TOPIC)
        assert chosen == [everything[example.position] for example in chosen]
        assert [e.position for e in chosen] == sorted(e.position for e in chosen)
        size = selection.limit or selection.sample
        assert len(chosen) == (size or 29)


async def test_a_sample_is_the_same_for_a_seed_from_any_kind_of_source(tmp_path: Path) -> None:
    rows = [{"n": n} for n in range(200)]

    async def later() -> AsyncIterator[object]:
        for row in rows:
            yield row

    def positions(examples: list[Example]) -> list[int]:
        return [example.position for example in examples]

    seeded = Selection(sample=10, seed=1)
    expected = positions(await read(rows, seeded))
    assert len(set(expected)) == 10
    for source in (iter(rows), later(), write_jsonl(tmp_path / "a.jsonl", rows)):
        assert positions(await read(source, seeded)) == expected
    assert positions(await read(rows, Selection(sample=10, seed=2))) != expected
    assert len(await read(rows, Selection(sample=500))) == 200


async def test_every_row_is_as_likely_to_be_drawn() -> None:
    drawn = [0] * 20
    for seed in range(400):
        for example in await read([{"n": n} for n in range(20)], Selection(sample=5, seed=seed)):
            drawn[example.position] += 1
    # 100 expected, standard deviation 8.7: five of them either side.
    assert all(56 < times < 144 for times in drawn)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('lang == "en"', [0, 2]),
        ('lang != "en"', [1, 3]),
        ("n >= 2", [2, 3]),
        ("1 <= n < 3", [1, 2]),
        ("n == -1 or n in [0, 3]", [0, 3]),
        ('not lang ~ "^e" and n > 0', [1, 3]),
        ('topic ~ "(?i)LAKE"', [2]),
        ('"forest" in topic', [0]),
        ("len(topic) > 6", [0, 1]),
        ("`long name` == 'y'", [1]),
        ("lang is None or lang == null", [3]),
        ("flag", [0]),
        ("flag == true", [0]),
        ("lang < 5", []),
        ('topic == "a ~ b"', [3]),
    ],
)
async def test_where_takes_the_rows_that_hold(condition: str, expected: list[int], tmp_path: Path) -> None:
    rows = [
        {"topic": "a forest", "lang": "en", "n": "0", "long name": "x", "flag": "true"},
        {"topic": "ein Wald", "lang": "de", "n": "1", "long name": "y", "flag": "false"},
        {"topic": "a lake", "lang": "en", "n": "2", "long name": "x", "flag": ""},
        {"topic": "a ~ b", "lang": None, "n": "3", "long name": "x", "flag": "no"},
    ]
    assert [example.position for example in await read(rows, Selection(where=condition))] == expected


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("lang = 'en'", "write == to compare"),
        ("__import__('os').system('true')", "is not allowed"),
        ("topic.upper() == 'A'", "is not allowed"),
        ("[x for x in topic]", "is not allowed"),
        ("lambda: 1", "is not allowed"),
        ("n ** 9", "is not allowed"),
        ("a @ 'b'", "'@' has no meaning"),
        ("topic ~ '('", "no regular expression"),
        ("topic ~ lang", "is not allowed"),
        ("my column == 1", "backticks"),
        ("", "invalid syntax"),
        ("(" * 5000 + "n", ""),
        ("n" * 20_000, "more than"),
    ],
)
def test_where_refuses_what_is_no_condition_and_says_why(condition: str, reason: str) -> None:
    with pytest.raises(InputError, match="where: expected a condition") as refused:
        open_dataset([{"n": 1}], Selection(where=condition))
    assert reason in str(refused.value)


@given(st.text(max_size=40) | st.text("nab ~=<>!()[]'\"`,.@-andorti01", max_size=30))
def test_where_never_fails_in_another_way(text: str) -> None:
    try:
        condition = parse_condition(text)
    except InputError:
        return
    assert isinstance(condition.holds({"n": 1, "a": "b", "b": [1]}), bool)


async def test_a_fingerprint_tells_changes_in_words(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")

    async def taken(source: Path, known: Fingerprint | None = None) -> Fingerprint:
        fingerprint = await open_dataset(source).fingerprint(known)
        assert fingerprint is not None
        return Fingerprint.from_json(json.loads(json.dumps(fingerprint.to_json())))

    before = await taken(path)
    assert difference(before, await taken(path, before)) is None
    path.write_text(path.read_text().replace("forest", "desert"))
    assert "content differs" in (difference(before, await taken(path, before)) or "")
    write_jsonl(path, [*ROWS, *ROWS])
    assert "grew by" in (difference(before, await taken(path)) or "")
    folder = await taken(tmp_path)
    assert "is a folder now" in (difference(before, folder) or "")
    path.rename(tmp_path / "b.jsonl")
    assert "other names" in (difference(folder, await taken(tmp_path)) or "")
    (tmp_path / "c").touch()
    assert "1 files and has 2" in (difference(folder, await taken(tmp_path)) or "")


def test_a_selection_survives_json() -> None:
    selection = Selection({"topic": "title"}, {"words": 9}, where="n > 1", sample=3, seed=4, on_bad_row="skip")
    assert Selection.from_json(json.loads(json.dumps(selection.to_json()))) == selection
    with pytest.raises(InputError, match="not of this version"):
        Selection.from_json({"later": 1})


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=200))
def test_the_table_counts_as_a_dict_does(numbers: list[int]) -> None:
    table, counts = Table(), dict[int, int]()
    for number in numbers:
        counts[number] = counts.get(number, 0) + 1
        assert table.count(number) == counts[number]


def test_the_table_keeps_what_it_holds_while_it_grows() -> None:
    table = Table()
    spread = [number * 0x9E3779B97F4A7C15 for number in range(1, 20_001)]
    assert not any(table.put(number, place) for place, number in enumerate(spread, 1))
    assert [table.put(number, 1) for number in spread] == list(range(1, 20_001))


async def test_count_follows_the_selection() -> None:
    rows = [{"n": n} for n in range(9)]
    sizes = {None: 9, 4: 4, 20: 9}
    for limit, size in sizes.items():
        assert await open_dataset(rows, Selection(limit=limit)).count() == size
    assert await open_dataset(rows, Selection(sample=3)).count() == 3
    assert await open_dataset(rows, Selection(where="n > 3")).count() is None
    assert await open_dataset(iter(rows)).count() is None


async def test_check_shows_columns_and_format_before_anything_is_read(tmp_path: Path) -> None:
    dataset: Dataset = open_dataset(write_csv(tmp_path / "a.csv"), inputs=TOPIC)
    await dataset.check()
    assert (dataset.columns, dataset.format) == (("topic", "lang"), "csv")


async def test_rows_without_any_input_are_refused(tmp_path: Path) -> None:
    class Optional(NamedTuple):
        name: str
        required: bool = False

    data = tmp_path / "rows.csv"
    data.write_text("id,text,lang\n1,hello,en\n")
    with pytest.raises(InputError, match=r"no column is an input \(question, answers\).*--map"):
        await open_dataset(data, inputs=[Optional("question"), Optional("answers")]).check()


async def test_reference_outputs_of_a_table_are_a_column_of_json(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "rows.csv", [{"topic": "sea", "reference_outputs": '{"must": ["salt"]}', "kind": "x"}])
    (example,) = await read(file, inputs=TOPIC)
    assert example.inputs == {"topic": "sea"}
    assert example.reference_outputs == {"must": ["salt"]}
    assert example.metadata == {"kind": "x"}
    write_csv(file, [{"topic": "sea", "reference_outputs": "{must"}])
    with pytest.raises(InputError, match=r"reference_outputs.*expected a JSON object"):
        await read(file, inputs=TOPIC)
