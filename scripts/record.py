"""Records a command in a terminal of its own as an animated SVG: python scripts/record.py OUT.svg COMMAND [ARG ...].

The frames stand below one another on a film strip that a CSS animation moves past the window, step by step.
"""

from __future__ import annotations

import fcntl
import html
import os
import pty
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from itertools import groupby
from pathlib import Path

import pyte

COLUMNS, ROWS = 96, 24
FRAME_S = 0.4
HOLD_FRAMES = 8
CELL_WIDTH, CELL_HEIGHT, MARGIN = 8.4, 18, 14
BACKGROUND, FOREGROUND = "#0f1419", "#d5d9de"
COLOURS = {
    "black": "#4b525c",
    "red": "#f0716b",
    "green": "#7fd07f",
    "brown": "#e3c26f",
    "blue": "#6fa8f0",
    "magenta": "#c792ea",
    "cyan": "#64c8d0",
    "white": "#f2f4f7",
}

Line = list[tuple[str, str]]
"""Pieces of text with their colour."""


def main() -> None:
    """Record and write; the command's own exit code is ours."""
    out, command = Path(sys.argv[1]), sys.argv[2:]
    frames, code = record(command)
    out.write_text(drawn([prompt(command), *frames]), encoding="utf-8")
    sys.exit(code)


def record(command: list[str]) -> tuple[list[list[Line]], int]:
    """The screen every FRAME_S seconds while the command runs, without the time before it says anything."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        frames: list[list[Line]] = []
        due = time.monotonic() + FRAME_S
        while True:
            ready, _, _ = select.select([leader], [], [], max(0.0, due - time.monotonic()))
            if ready:
                try:
                    stream.feed(os.read(leader, 65536))
                except OSError:  # the other end is closed: the command is over
                    break
            elif process.poll() is not None:
                break
            if time.monotonic() >= due:
                due += FRAME_S
                frames.append(lines_of(screen))
        code = process.wait()
    os.close(leader)
    frames.append(lines_of(screen))
    seen = [frame for frame, _ in groupby(frames)]
    return seen + [seen[-1]] * HOLD_FRAMES, code


def lines_of(screen: pyte.Screen) -> list[Line]:
    """What stands on the screen."""
    lines = []
    for row in range(ROWS):
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        pieces = groupby(cells, key=lambda cell: COLOURS.get(cell.fg, FOREGROUND))
        lines.append([("".join(cell.data for cell in piece), colour) for colour, piece in pieces])
    return lines


def prompt(command: list[str]) -> list[Line]:
    """The first frame: the command as one would type it."""
    text = "$ " + shlex.join([Path(command[0]).name, *command[1:]])
    cut = [text[start : start + COLUMNS] for start in range(0, len(text), COLUMNS)]
    return [[(line, FOREGROUND)] for line in cut]


def drawn(frames: list[list[Line]]) -> str:
    """The SVG."""
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, ROWS * CELL_HEIGHT + 2 * MARGIN
    strip = "".join(drawn_frame(frame, number * height) for number, frame in enumerate(frames))
    count = len(frames)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">\n'
        "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}"
        f"#strip{{animation:play {count * FRAME_S:g}s steps({count}) infinite}}"
        f"@keyframes play{{to{{transform:translateY(-{count * height:g}px)}}}}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>\n<g id="strip">{strip}</g>\n</svg>\n'
    )


def drawn_frame(lines: list[Line], top: float) -> str:
    """One frame, `top` pixels down the strip."""
    texts = []
    for row, line in enumerate(lines):
        y = top + MARGIN + (row + 0.8) * CELL_HEIGHT
        column = 0
        for text, colour in line:
            if text.strip():
                x = MARGIN + column * CELL_WIDTH
                length = len(text) * CELL_WIDTH
                texts.append(
                    f'<text x="{x:g}" y="{y:g}" fill="{colour}" textLength="{length:g}">{html.escape(text)}</text>\n'
                )
            column += len(text)
    return "".join(texts)


if __name__ == "__main__":
    main()
