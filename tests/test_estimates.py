"""What calls will probably cost, before and after some were seen."""

from __future__ import annotations

import json
import random
import threading
import timeit
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.flow.estimates import (
    AUDIO_TOKENS,
    FILE_TOKENS,
    IMAGE_TOKENS,
    SMALL_IMAGE_TOKENS,
    Sizes,
    most_tokens,
    prompt_tokens,
)


def chat(*contents: object, **fields: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": content} for content in contents], **fields}


def tokens(body: dict[str, object]) -> int:
    return prompt_tokens(body, len(json.dumps(body)))


# As o200k, the tokenizer of GPT-4o, and cl100k, that of GPT-4, count them.
@pytest.mark.parametrize(
    ("text", "o200k", "cl100k", "error"),
    [
        (
            "The lighthouse keeper climbed the spiral stairs every evening, counting each step under his breath.",
            17,
            18,
            0.45,
        ),
        ("Der Leuchtturmwärter stieg jeden Abend die Wendeltreppe hinauf und zählte leise jede Stufe.", 27, 31, 0.3),
        ("灯塔看守人每天傍晚都要爬上螺旋楼梯低声数着那二百一十二级台阶。", 33, 49, 0.3),
        ('[{"id": 1, "name": "user 1", "tags": ["alpha", "beta"], "score": 1.37, "active": true}]', 37, 37, 0.2),
    ],
)
def test_text_is_guessed_about_as_well_as_tokenizers_agree(text: str, o200k: int, cl100k: int, error: float) -> None:
    guess = prompt_tokens({"prompt": text}, 0)
    assert min(o200k, cl100k) * (1 - error) <= guess <= max(o200k, cl100k) * (1 + error)


def test_every_dialects_prompt_is_counted() -> None:
    text = "word " * 80
    assert prompt_tokens({"prompt": text}, 0) == 100
    assert prompt_tokens({"input": [text, text]}, 0) == 200
    assert prompt_tokens({"instructions": text, "input": text}, 0) == 200
    assert tokens(chat(text)) == 104
    assert tokens(chat([{"type": "text", "text": text}])) == 104
    assert tokens(chat(text, system=[{"type": "text", "text": text}])) == 204
    tool_call = {"role": "assistant", "tool_calls": [{"id": "x" * 400, "function": {"name": "f", "arguments": text}}]}
    assert prompt_tokens({"messages": [tool_call]}, 0) == 105
    assert prompt_tokens({"input": [[1, 2, 3], [4, 5]]}, 0) == 5


def test_tools_and_schemas_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "description": "d" * 400}}}
    assert tokens(chat("hi", tools=[tool])) > tokens(chat("hi")) + 100
    schema = {"type": "json_schema", "json_schema": {"schema": {"description": "d" * 400}}}
    assert tokens(chat("hi", response_format=schema)) > tokens(chat("hi")) + 100


@pytest.mark.parametrize(
    ("part", "flat"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": {"url": "http://a/b.png", "detail": "low"}}, SMALL_IMAGE_TOKENS),
        ({"type": "input_image", "image_url": "data:,", "detail": "low"}, SMALL_IMAGE_TOKENS),
        ({"type": "image", "source": {"type": "base64", "data": "A" * 1_000_000}}, IMAGE_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": "A" * 1_000_000, "format": "wav"}}, AUDIO_TOKENS),
        ({"type": "document", "source": {"type": "base64", "data": "A" * 1_000_000}}, FILE_TOKENS),
        ({"type": "tool_result", "content": [{"type": "image", "source": {"data": "A" * 1_000_000}}]}, IMAGE_TOKENS),
        ({"type": "of the future", "data": "ABCD" * 250_000}, IMAGE_TOKENS),
    ],
)
def test_media_counts_a_flat_amount_whatever_its_size(part: dict[str, object], flat: int) -> None:
    assert tokens(chat([part])) == flat + 4


def test_a_document_of_text_counts_as_text() -> None:
    assert tokens(chat([{"type": "document", "source": {"type": "text", "data": "word " * 80}}])) == 104


def test_an_unknown_body_counts_by_its_size() -> None:
    assert prompt_tokens({}, 4001) == 1001
    assert prompt_tokens({"documents": ["x"]}, 400) == 100


def test_guessing_costs_microseconds_and_images_cost_nothing() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 20_000_000}}
    for body in (chat("You are helpful. " * 30, "word " * 300), chat([image])):
        once_s = min(timeit.repeat(partial(prompt_tokens, body, 2000), number=100, repeat=5)) / 100
        assert once_s < 100e-6


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "role", "content", "source"]), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "system", "tools", "max_tokens"]), json_values))
def test_no_body_breaks_the_guess(body: dict[str, object]) -> None:
    assert prompt_tokens(body, 100) >= 0
    most = most_tokens(body)
    assert most is None or most > 0


def test_the_most_tokens_are_read_by_each_dialects_name() -> None:
    assert most_tokens({"max_tokens": 5}) == most_tokens({"max_output_tokens": 5}) == 5
    assert most_tokens({"max_completion_tokens": 5, "max_tokens": 9}) == 5
    for nothing in ({}, {"max_tokens": None}, {"max_tokens": True}, {"max_tokens": 0}, {"max_tokens": "5"}):
        assert most_tokens(nothing) is None


def test_before_any_call_the_guess_stands() -> None:
    sizes = Sizes()
    assert (sizes.expect(100, None, 1).input, sizes.expect(100, None, 1).output) == (100, 256)
    assert sizes.expect(100, 20, 1).output == 20
    assert sizes.expect(100, 20, 3).output == 60
    assert sizes.expect(100, 20, 1).output_sd == 0


def test_calls_correct_prompts_and_answers() -> None:
    sizes, chance = Sizes(), random.Random(1)
    for _ in range(200):
        prompt = chance.randint(50, 500)
        sizes.learn(prompt, round(prompt * 1.4), 2 * round(chance.gauss(600, 100)), 2)
    expected = sizes.expect(1000, None, 1)
    assert expected.input == pytest.approx(1400, rel=0.01)
    assert expected.output == pytest.approx(600, rel=0.1)
    assert expected.output_sd == pytest.approx(100, rel=0.4)
    assert sizes.expect(1000, 500, 2).output == 1000


def test_old_evidence_fades() -> None:
    sizes = Sizes()
    for _ in range(1000):
        sizes.learn(100, 100, 50, 1)
    for _ in range(60):
        sizes.learn(100, 200, 500, 1)
    expected = sizes.expect(100, None, 1)
    assert expected.input == pytest.approx(200, rel=0.1)
    assert expected.output == pytest.approx(500, rel=0.1)


def test_a_few_calls_are_enough() -> None:
    sizes = Sizes()
    for _ in range(10):
        sizes.learn(100, 120, 20, 1)
    expected = sizes.expect(100, None, 1)
    assert expected.input == pytest.approx(120, rel=0.05)
    assert expected.output < 60


def test_reports_that_cannot_be_do_no_harm() -> None:
    sizes = Sizes()
    for nonsense in ((0, 0, 0, 0), (0, 500, -5, 1), (1, 10**30, 10**30, -1), (10**30, 1, 0, 1)):
        sizes.learn(*nonsense)
        expected = sizes.expect(100, 50, 1)
        assert 0 <= expected.output <= 50
        assert 10 <= expected.input <= 1000


def test_sizes_survive_on_disk() -> None:
    sizes = Sizes()
    for output in (10, 20, 30):
        sizes.learn(100, 150, output, 1)
    again = Sizes.load(json.loads(json.dumps(sizes.dump())))
    assert again.expect(100, None, 1) == sizes.expect(100, None, 1)


@pytest.mark.parametrize(
    "damaged",
    [None, [], "x", {}, {"calls": 1}, {"mean": float("nan")}, {"variance": -1}, {"estimated": 0}, {"mean": "9"}],
)
def test_a_damaged_dump_is_as_none(damaged: object) -> None:
    dumped = {**Sizes().dump(), **damaged} if isinstance(damaged, dict) and len(damaged) == 1 else damaged
    if damaged == {"calls": 1}:
        dumped = damaged
    assert Sizes.load(dumped).expect(100, None, 1) == Sizes().expect(100, None, 1)


def test_threads_learn_together() -> None:
    sizes = Sizes()

    def learn() -> None:
        for _ in range(500):
            sizes.learn(100, 150, 300, 1)
            sizes.expect(100, None, 1)

    threads = [threading.Thread(target=learn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes.expect(100, None, 1).output == 300
    assert sizes.expect(100, None, 1).input == pytest.approx(150, abs=1)
