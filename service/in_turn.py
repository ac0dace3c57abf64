"""Gives tasks that run side by side their turns, one after the other, in the order in which they came."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Turn:
    """The place of one task in a row. Its turn is over when the context is left, whether it came or not.

    Args:
        before: set when those before it are over.
        over: set when this one is, too.
    """

    def __init__(self, before: asyncio.Event, over: asyncio.Event) -> None:
        self._before = before
        self._over = over
        self._passing: asyncio.Task[None] | None = None

    async def comes(self) -> None:
        """Wait until all that came before are over."""
        await self._before.wait()

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before.is_set():
            self._over.set()
        else:  # it gives up early, and the next must still wait for those before
            self._passing = asyncio.ensure_future(self._pass_on())

    async def _pass_on(self) -> None:
        await self._before.wait()
        self._over.set()


class InTurn:
    """A row of turns."""

    def __init__(self) -> None:
        self._last = asyncio.Event()
        self._last.set()

    def turn(self) -> Turn:
        """The next place in the row."""
        before, self._last = self._last, asyncio.Event()
        return Turn(before, self._last)
