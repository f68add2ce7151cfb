"""Rows come as they are read: bounded look-ahead, prompt ends, pipes, copies of them, LangSmith."""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from plait.datasets import Selection, open_dataset
from plait.datasets.pumps import AHEAD, in_thread
from plait.errors import InputError
from tests.langsmith_server import KEY, LangSmith


async def assert_reading_ended() -> None:
    for thread in reading_threads():
        await asyncio.to_thread(thread.join, 30)
    assert not reading_threads()


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "plait-dataset"]


async def test_no_more_is_read_ahead_than_promised_and_closing_ends_the_thread() -> None:
    given: list[int] = []
    full = threading.Event()

    def endless() -> Iterator[dict[str, int]]:
        for number in count():
            given.append(number)
            if number == AHEAD - 1:
                full.set()
            yield {"n": number}

    examples = open_dataset(endless()).examples()
    assert (await anext(examples)).inputs == {"n": 0}
    assert await asyncio.to_thread(full.wait, 30)
    assert len(given) <= AHEAD + 2
    for number in range(1, 2000):
        assert (await anext(examples)).inputs == {"n": number}
    assert len(given) <= 2000 + AHEAD + 2
    await examples.aclose()
    await assert_reading_ended()


async def test_cancelling_who_waits_for_a_row_ends_the_thread() -> None:
    released = threading.Event()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow() -> Iterator[dict[str, int]]:
        yield {"n": 0}
        loop.call_soon_threadsafe(asked.set)
        released.wait(30)
        yield {"n": 1}

    async def consume() -> None:
        async for _ in open_dataset(slow()).examples():
            pass

    consumer = asyncio.create_task(consume())
    await asked.wait()
    consumer.cancel()
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    await assert_reading_ended()


async def test_examples_that_nobody_reads_start_no_thread() -> None:
    examples = open_dataset([{"n": 1}]).examples()
    assert not reading_threads()
    await examples.aclose()


async def test_a_dataset_is_read_again_from_its_start_and_twice_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(3000)))
    dataset = open_dataset(path)

    async def numbers() -> list[object]:
        return [example.inputs["n"] async for example in dataset.examples()]

    for read in await asyncio.gather(numbers(), numbers()):
        assert read == list(range(3000))


async def test_rows_before_an_error_of_an_iterable_come_first() -> None:
    def failing() -> Iterator[dict[str, int]]:
        yield {"n": 0}
        raise LookupError("gone")

    examples = open_dataset(failing()).examples()
    assert (await anext(examples)).inputs == {"n": 0}
    with pytest.raises(LookupError, match="gone"):
        await anext(examples)


async def test_a_function_in_a_thread_gives_its_result_or_its_error() -> None:
    assert await in_thread(lambda stop: stop()) is False
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda _: 1 // 0)


READ_STANDARD_INPUT = """
import asyncio, sys
from pathlib import Path
from plait.datasets import Selection, open_dataset
async def main():
    tee = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    dataset = open_dataset("-", Selection(limit=int(sys.argv[2]) if len(sys.argv) > 2 else None), tee=tee)
    async for example in dataset.examples():
        print(example.inputs, flush=True)
    print(dataset.format)
asyncio.run(main())
"""


async def start(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", READ_STANDARD_INPUT, *arguments, stdin=pipe, stdout=pipe, stderr=pipe
    )


async def test_rows_of_a_pipe_come_while_it_is_open_and_are_copied(tmp_path: Path) -> None:
    process = await start(str(tmp_path / "input"))
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(3):
        # The next line is written only when this one came out.
        process.stdin.write(f'{{"n": {number}}}\n'.encode())
        assert await process.stdout.readline() == f"{{'n': {number}}}\n".encode()
    output, _ = await process.communicate(b'{"n": 3}')
    assert output == b"{'n': 3}\njsonl\n"
    assert (tmp_path / "input").read_text() == '{"n": 0}\n{"n": 1}\n{"n": 2}\n{"n": 3}'


async def test_a_pipe_that_stays_open_does_not_hold_the_process(tmp_path: Path) -> None:
    process = await start(str(tmp_path / "input"), "1")
    assert process.stdin is not None
    process.stdin.write(b"Ada\nGra")
    async with asyncio.timeout(30):
        await process.wait()
    assert process.returncode == 0
    # A half line is no row: a resume would take it for one.
    assert (tmp_path / "input").read_text() == "Ada\n"
    process.stdin.close()


async def test_standard_input_without_rows_is_refused() -> None:
    process = await start()
    _, errors = await process.communicate(b"")
    assert b"standard input: expected rows, found an empty file" in errors


SPOOL = """
import asyncio, sys
from pathlib import Path
from plait.datasets import spool
asyncio.run(spool(Path(sys.argv[1])))
"""


async def test_standard_input_is_spooled_decompressed(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPOOL, str(tmp_path / "input"), stdin=asyncio.subprocess.PIPE
    )
    text = b"".join(b'{"n": %d}\n' % number for number in range(100_000))
    await process.communicate(gzip.compress(text))
    assert (tmp_path / "input").read_bytes() == text


async def test_a_pipe_of_the_shell_is_read_once_from_its_first_byte(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = asyncio.create_task(asyncio.to_thread((tmp_path / "pipe").write_text, '{"n": 1}\n{"n": 2}\n'))
    assert [example.inputs async for example in open_dataset(tmp_path / "pipe").examples()] == [{"n": 1}, {"n": 2}]
    await writer


async def test_a_langsmith_dataset_is_read_by_its_name() -> None:
    ids = ("22222222-2222-2222-2222-222222222222", "33333333-3333-3333-3333-333333333333")
    async with LangSmith() as langsmith:
        langsmith.add_dataset(
            "stories", *({"id": id_, "inputs": {"topic": id_[0]}, "outputs": {"n": 1}} for id_ in ids)
        )
        env = {"LANGSMITH_ENDPOINT": langsmith.url, "LANGCHAIN_API_KEY": KEY}
        dataset = open_dataset("langsmith:stories", Selection(limit=5), env=env)
        examples = [example async for example in dataset.examples()]
        assert [example.inputs for example in examples] == [{"topic": "2"}, {"topic": "3"}]
        assert [example.id for example in examples] == list(ids)
        assert examples[0].reference_outputs == {"n": 1}
        assert await dataset.count() == 2
        with pytest.raises(InputError, match="langsmith:tales: cannot be read from LangSmith"):
            await open_dataset("langsmith:tales", env=env).count()
