"""How long 10,000 passages take to be read and indexed for `rag`, and a question to be answered from them."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Figure
from chains.documents import read_documents
from chains.search_documents import PASSAGE_CHARS, build_index, search_documents

PASSAGES = 10_000
FILES = 500
QUESTIONS = 100
ROUNDS = 3
VOCABULARY = 50_000


def main() -> None:
    """Print seconds to index and milliseconds a question, over text made from a seed."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = _write(Path(folder))
        asyncio.run(_measure(folder, vocabulary))


async def _measure(folder: str, vocabulary: list[str]) -> None:
    documents = await read_documents(folder)
    indexing, passages = [], 0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        passages = len(build_index(documents).passages)
        indexing.append(time.perf_counter() - started)
    words = random.Random(2)
    questions = [" ".join(words.choices(vocabulary[:5000], k=8)) for _ in range(QUESTIONS)]
    started = time.perf_counter()
    await search_documents(questions[0], folder)
    first = time.perf_counter() - started
    asking = []
    for question in questions:
        started = time.perf_counter()
        found = await search_documents(question, folder)
        asking.append(time.perf_counter() - started)
        assert found
    print(f"{passages:,} passages in {FILES} files; targets: index < 10 s, a question < 20 ms")
    print(f"index                        {Figure.of(indexing).text(' s')}")
    print(f"first question (reads too)   {first:.2f} s")
    print(
        f"a question, files unchanged  {Figure.of(asking).text(' ms', scale=1000)}, at most {max(asking) * 1000:.1f} ms"
    )


def _write(folder: Path) -> list[str]:
    """Files of paragraphs as long as a passage, whose words are as unevenly frequent as a language's."""
    seeded = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(seeded.choices(letters, k=seeded.randint(2, 9))) for _ in range(VOCABULARY)]
    weights = [1 / rank for rank in range(1, VOCABULARY + 1)]
    for number in range(FILES):
        paragraphs = [_paragraph(seeded, vocabulary, weights) for _ in range(PASSAGES // FILES)]
        (folder / f"{number:04}.txt").write_text("\n\n".join(paragraphs))
    return vocabulary


def _paragraph(seeded: random.Random, vocabulary: list[str], weights: list[float]) -> str:
    words = " ".join(seeded.choices(vocabulary, weights=weights, k=PASSAGE_CHARS // 5))
    return words[: PASSAGE_CHARS - 50]
