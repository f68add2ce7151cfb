"""Finds the passages of documents that a question is about: BM25, with embeddings if asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypedDict
from weakref import WeakKeyDictionary

import anyio.to_thread
import bm25s  # type: ignore[import-untyped]
import numpy as np

from chains.documents import SUFFIXES, Document, read_documents, split_text
from chains.embed_passages import Vectors, embed_passages

PASSAGE_CHARS = 1000
MOST_INDEXES = 4
"""Folders whose index is kept in memory."""

_RANKED = 50  # passages of each search that take part in the fusion
_SIMILAR = 0.25  # cosine below which MiniLM's neighbours have nothing to do with the question
_FUSION = 60  # the constant of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009)

# Written without spaces between words: Thai to Myanmar, Khmer, kana, Han, Hangul (whose particles stick to words).
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003134f"
)
_WORDS = re.compile(rf"[^\W_{_DENSE}]+|[{_DENSE}]+")
_IS_DENSE = re.compile(f"[{_DENSE}]")

Stamp = tuple[tuple[str, int, int], ...]
"""Path, time of change (ns) and size (bytes) of every file and of the folders that were named."""


class Passage(TypedDict):
    """A piece of a document: `number` of the `of` that it has, from 1."""

    document: str
    number: int
    of: int
    text: str


@dataclass(slots=True)
class Index:
    """Passages and what makes them searchable; `vectors` has a row for each, once they were asked for."""

    passages: list[Passage]
    bm25: bm25s.BM25
    vectors: Vectors | None = None


_indexes: OrderedDict[Stamp, Index] = OrderedDict()
_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def search_documents(
    question: str,
    path: str | Sequence[str],
    *,
    top_k: int = 4,
    embed: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Passage]:
    """At most `top_k` passages, best first; none where no passage shares a word (or, with `embed`, a meaning).

    The index stays in memory until a file changes. `embed` needs the extra plait[embed]; its vectors are kept in
    `cache`, and `progress` is told how many passages are embedded, of how many. Raises InputError where there is
    nothing to read, and ModelUnavailable where `embed` is not installed.
    """
    paths = [path] if isinstance(path, str) else list(path)
    index = await _index_of(paths, embed=embed, cache=cache, progress=progress)
    asked = (await embed_passages([[question]]))[0] if embed else None
    return await anyio.to_thread.run_sync(_search, index, question, top_k, asked, abandon_on_cancel=True)


def words(text: str) -> list[str]:
    """Lower-case words in any language; runs of scripts without spaces give their characters and pairs of them."""
    found: list[str] = []
    for word in _WORDS.findall(unicodedata.normalize("NFKC", text).casefold()):
        found += _pairs(word) if _IS_DENSE.match(word) else (word,)
    return found


def build_index(documents: Sequence[Document]) -> Index:
    """The documents' passages, searchable by words and their document's name. CPU work, not for a loop's thread."""
    passages = [passage for document in documents for passage in _passages(document)]
    vocabulary: dict[str, int] = {}
    # The numbers are given here: bm25s makes them from strings too, several times slower.
    ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in words(_content(p))] for p in passages]
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # at its import it sets DEBUG, whatever the root's level
    bm25 = bm25s.BM25(backend="numpy")
    bm25.index((ids, vocabulary), show_progress=False)
    return Index(passages, bm25)


async def _index_of(
    paths: Sequence[str], *, embed: bool, cache: Path | None, progress: Callable[[int, int], None] | None
) -> Index:
    stamp = await anyio.to_thread.run_sync(_stamp, paths, abandon_on_cancel=True)
    index = _indexes.get(stamp)
    if index is None or (embed and index.vectors is None):
        # One at a time: a thousand questions about the same folder begin at once, and it is read once.
        async with _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if (index := _indexes.get(stamp)) is None:
                documents = await read_documents(paths)
                index = await anyio.to_thread.run_sync(build_index, documents, abandon_on_cancel=True)
            if embed and index.vectors is None:
                index.vectors = await embed_passages(_texts_by_document(index), cache=cache, progress=progress)
    _indexes.pop(stamp, None)
    _indexes[stamp] = index
    while len(_indexes) > MOST_INDEXES:
        _indexes.popitem(last=False)
    return index


def _texts_by_document(index: Index) -> list[list[str]]:
    groups = groupby(index.passages, key=lambda passage: passage["document"])
    return [[_content(passage) for passage in group] for _, group in groups]


def _stamp(paths: Sequence[str]) -> Stamp:
    return tuple(
        (os.path.abspath(file), found.st_mtime_ns, found.st_size)
        for path in paths
        for file in _files(os.path.expanduser(path))
        if (found := _stat(file))
    )


def _files(path: str) -> Iterator[str]:
    yield path  # a folder too: what its files are called depends on it
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in sorted(names) if name.lower().endswith(SUFFIXES))


def _stat(file: str) -> os.stat_result | None:
    try:
        return os.stat(file)
    except (OSError, ValueError):  # what is not there, read_documents explains
        return None


def _passages(document: Document) -> list[Passage]:
    pieces = split_text(document["text"], most_chars=PASSAGE_CHARS)
    return [
        Passage(document=document["name"], number=number, of=len(pieces), text=piece)
        for number, piece in enumerate(pieces, start=1)
    ]


def _content(passage: Passage) -> str:
    return f"{passage['document']}\n{passage['text']}"


def _pairs(run: str) -> list[str]:
    return [*run, *(run[index : index + 2] for index in range(len(run) - 1))]


def _search(index: Index, question: str, top_k: int, asked: Vectors | None) -> list[Passage]:
    wanted = [word for word in words(question) if word in index.bm25.vocab_dict]
    rankings = [_best(index.bm25.get_scores(wanted), above=0.0)] if wanted else []
    if asked is not None and index.vectors is not None:
        rankings.append(_best(index.vectors @ asked, above=_SIMILAR))
    fused: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            fused[number] = fused.get(number, 0.0) + 1 / (_FUSION + rank)
    return [index.passages[number] for number in sorted(fused, key=lambda number: -fused[number])[:top_k]]


def _best(scores: np.ndarray[Any, Any], *, above: float) -> list[int]:
    """The highest scores' positions, best first, earlier ones before later ones of equal score."""
    order = np.argsort(-scores, kind="stable")[:_RANKED]
    return [int(number) for number in order if scores[number] > above]
