"""What is hidden in texts that are shown or stored."""

from __future__ import annotations

import pytest

from plait.masking import redacted


def test_known_keys_are_hidden_the_longer_ones_first() -> None:
    assert redacted("of longsecret-2 and longsecret", ["longsecret", "longsecret-2"]) == "of *** and ***"


def test_a_short_key_is_hidden_only_where_it_stands_alone() -> None:
    assert redacted("key tiger, tigers", ["tiger", ""]) == "key ***, tigers"


def test_a_word_that_stands_for_no_key_is_left_alone() -> None:
    assert redacted("none of the texts is empty", ["none", "EMPTY"]) == "none of the texts is empty"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: sk-proj-abcd1234efgh5678.", "Incorrect API key provided: ***."),
        ("authorization: Bearer abc123def", "authorization: Bearer ***"),
        ("lsv2_pt_0123456789abcdef", "***"),
    ],
)
def test_what_looks_like_a_key_is_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize("text", ["Bearer authentication is missing", "risk-averse-people-first", "see sk-learn"])
def test_words_are_left_alone(text: str) -> None:
    assert redacted(text) == text
