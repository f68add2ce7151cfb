"""What is drawn while a run goes: the layout of panes, and words wrapped as they come."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from plait.cli.panes import Board, fit
from plait.cli.wrapping import Wrapped
from plait.events import TokenEvent, UpdateEvent


def drawn(board: Board, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(board)
    return capture.get().splitlines()


def tokens(count: int, text: str = "word ") -> Board:
    board = Board("stories")
    for index in reversed(range(count)):
        board.add(TokenEvent(text, f"write[{index}]", f"topic {index}", str(index)))
    return board


@pytest.mark.parametrize("width", [20, 40, 80, 100, 200])
@pytest.mark.parametrize("height", [5, 15, 24, 60])
@pytest.mark.parametrize("count", [2, 3, 5, 9, 40])
def test_panes_fit_the_terminal(width: int, height: int, count: int) -> None:
    lines = drawn(tokens(count, "a longer sentence that goes on "), width, height)
    assert len(lines) <= height - 1
    assert max(len(line) for line in lines) <= width
    layout = fit(count, width - 2, height - 1)
    assert sum("topic" in part for line in lines for part in line.split("╭")) == layout.shown
    assert (lines[-1].strip() == f"+{count - layout.shown} more") == (layout.shown < count)


def test_siblings_stand_in_their_order_whichever_spoke_first() -> None:
    assert [f"topic {i}" in drawn(tokens(12), 100, 30)[0] for i in range(3)] == [True, True, True]


def test_branches_still_writing_are_shown_before_finished_ones() -> None:
    board = tokens(9)
    for index in range(6):
        board.finish(UpdateEvent("write", {}, f"write[{index}]", f"topic {index}"))
    shown = "\n".join(drawn(board, 40, 14))
    assert all(f"topic {index}" in shown for index in (6, 7, 8))
    assert "topic 0" not in shown


def test_messages_of_one_branch_do_not_mix() -> None:
    board = Board("ask")
    for text, message in (("one ", "1"), ("eins ", "2"), ("two", "1"), ("zwei", "2")):
        board.add(TokenEvent(text, "node", "node", message))
    assert [line.strip() for line in drawn(board, 40, 10)] == ["one two", "", "eins zwei"]


def wrapped(*pieces: str, width: int = 10) -> str:
    out = io.StringIO()
    writer = Wrapped(out, lambda: width)
    for piece in pieces:
        writer.write(piece)
    writer.end_line()
    return out.getvalue()


def test_words_are_wrapped_wherever_the_pieces_are_cut() -> None:
    text = "the quick brown fox\n\njumps"
    expected = "the quick\nbrown fox\n\njumps\n"
    assert wrapped(text) == expected
    assert wrapped(*text) == expected


def test_a_word_longer_than_the_line_is_left_to_the_terminal() -> None:
    assert wrapped("x" * 30, " y") == "x" * 30 + "\ny\n"
