"""Workers in processes of this machine."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from plait.batches.channels import Channel, Orders
from plait.batches.workplaces import NO_WORD, NO_WORD_S

__all__ = ["ProcessWorkplace"]

_PATIENCE_S = 5.0


class ProcessWorkplace:
    """A Workplace with room for `room` processes, each at the other end of a socket."""

    ahead = 64

    def __init__(self, room: int) -> None:
        self.room = room

    async def __aenter__(self) -> ProcessWorkplace:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def hire(self, orders: Orders) -> ProcessLink:
        paths = await asyncio.to_thread(_paths)
        here, there = socket.socketpair()
        alive, lifeline = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *paths, "-m", "plait.batches.worker", str(there.fileno()), str(alive)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # stdout carries results
                start_new_session=True,  # Ctrl-C is for the batch to understand
                pass_fds=(there.fileno(), alive),
            )
            link = ProcessLink(process, Channel(*await asyncio.open_connection(sock=here)), lifeline)
        except BaseException:
            os.close(lifeline)  # the process ends with it
            here.close()
            raise
        finally:
            there.close()
            os.close(alive)
        link.send(orders)
        return link


class ProcessLink:
    """A Link to a process, which dies when its lifeline, the write end of a pipe, is closed."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel, lifeline: int) -> None:
        self.send = channel.send
        self.flushed = channel.flushed
        self._process = process
        self._channel = channel
        self._lifeline = lifeline
        self._silent = False

    async def receive(self) -> object | None:
        try:
            async with asyncio.timeout(NO_WORD_S):
                return await self._channel.receive()
        except TimeoutError:
            self._silent = True
            return None

    async def dismissed(self) -> str:
        os.close(self._lifeline)
        self._channel.close()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        if self._silent:
            return NO_WORD.format(NO_WORD_S)
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _paths() -> list[str]:
    """The option that keeps a queue.py of the working directory from hiding the standard library's, as it is here.

    Blocks: the working directory.
    """
    return [] if {"", os.getcwd()} & {*sys.path} else ["-P"]
