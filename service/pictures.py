"""Pictures that are open: decoded in threads, and few at a time, because each may be large.

A request that knows its persons decodes and crops in one go and keeps nothing. One whose persons must be found first
holds the whole picture meanwhile: that is what is counted here. Knows nothing of persons.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from model.crop import Pixels
from service.images import ImageLimits, decode_image
from service.poses import Image
from service.record import RequestRecord

Answer = TypeVar("Answer")

MAX_DECODERS = 4  # each may hold a whole decoded picture
MAX_OPEN = 8


class OpenPicture:
    """A decoded picture. Dropped with `close`, or by leaving the context that gave it."""

    def __init__(self, image: Pixels, places: asyncio.Semaphore) -> None:
        self._image: Pixels | None = image
        self._places = places

    @property
    def image(self) -> Pixels:
        """[H, W, 3] uint8 RGB, upright."""
        if self._image is None:
            raise RuntimeError("the picture is closed")
        return self._image

    def close(self) -> None:
        """Make room for another; once is enough."""
        if self._image is not None:
            self._image = None
            self._places.release()


class Pictures:
    """Opens the pictures of one service.

    Args:
        limits: of the pictures that are taken.
    """

    def __init__(self, limits: ImageLimits) -> None:
        self.limits = limits
        self._threads = ThreadPoolExecutor(max_workers=MAX_DECODERS, thread_name_prefix="decode")
        self._places = asyncio.Semaphore(MAX_OPEN)

    async def in_thread(self, work: Callable[[], Answer]) -> Answer:
        """Decode, crop: what takes a core for milliseconds, and an event loop no time."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @asynccontextmanager
    async def opened(self, image: Image, record: RequestRecord) -> AsyncIterator[OpenPicture]:
        """A decoded picture, when there is a place for it; those who ask first get theirs first.

        Raises NotAnImage, TooLarge.
        """
        await self._places.acquire()
        try:
            with record.stage("decode"):
                pixels = await self.in_thread(lambda: decode_image(image, self.limits))
        except BaseException:
            self._places.release()
            raise
        picture = OpenPicture(pixels, self._places)
        record.height, record.width = pixels.shape[:2]
        try:
            yield picture
        finally:
            picture.close()

    def close(self) -> None:
        """Take no more; the threads end after what they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)
