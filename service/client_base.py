"""What a client can be asked, whatever the protocol: its two faces, frames, and what is checked before sending.

Knows nothing of HTTP or gRPC.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.errors import InvalidParameter, PoseServiceError
from service.poses import Box, ModelInfo, PoseRequest, PoseResult

MAX_AHEAD = 16  # frames of a stream that are sent before the first of them is answered


@dataclass(frozen=True)
class Frame:
    """One picture of a stream. Raises InvalidParameter for an id or boxes that cannot be sent.

    Args:
        frame_id: 0 to 2**64 - 1; comes back with the answer, and need not be unique or ordered.
        image: the bytes of a JPEG, PNG or WebP file, or its path, read when its turn comes.
        boxes_xywh: one for each person, in pixels of the upright picture; None: the whole picture is one person.
        flip_test: also look at the mirrored picture.
    """

    frame_id: int
    image: bytes | Path
    boxes_xywh: Sequence[Box] | None = None
    flip_test: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.frame_id < 2**64:
            raise InvalidParameter(f"frame_id is {self.frame_id}; allowed: 0 to 2**64 - 1")
        checked_boxes(self.boxes_xywh)


@dataclass(frozen=True)
class FrameAnswer:
    """The answer to one frame: either `result`, or the `error` that this frame met. The other is None."""

    frame_id: int
    result: PoseResult | None
    error: PoseServiceError | None


class PoseClient(ABC):
    """A connection to a pose service, to be closed or used in a `with` block. Threads may share one.

    Every call raises the errors of `service.errors`, as the service does; `Unavailable` also where nothing answers at
    the address, `Late` also where the answer does not come in time, and `UnexpectedAnswer` where something answers that
    is no pose service. Nothing is tried a second time.
    """

    @abstractmethod
    def estimate(
        self,
        image: bytes | Path,
        *,
        boxes_xywh: Sequence[Box] | None = None,
        flip_test: bool = False,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> PoseResult:
        """The keypoints of each person in one picture.

        Args:
            image: the bytes of a JPEG, PNG or WebP file, or its path.
            boxes_xywh: one for each person, in pixels of the upright picture; None: the whole picture is one person.
            flip_test: also look at the mirrored picture and average; a little more precise, twice the work.
            timeout_s: how long the answer may take; the service is told. None: as connected.
            request_id: for the log of the service.

        Returns:
            Poses in the order of the boxes, in pixels of the upright picture: (0, 0) is the centre of its top-left one.

        Raises the errors of `service.errors`, and OSError for a path that cannot be read.
        """

    @abstractmethod
    def stream(
        self, frames: Iterable[Frame], *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Iterator[FrameAnswer]:
        """The answers to frames, in their order, one for each; work begins when the first answer is asked for.

        Over gRPC, frames are taken by another thread and sent while earlier ones are worked on, at most MAX_AHEAD
        before their answers have been taken; the service is told no deadline but that of the whole stream. Over HTTP,
        each frame is sent when the answer to the one before has been taken, as a request with the client's timeout.

        A frame that cannot be answered has the error in its answer. What concerns all frames is raised and ends the
        stream: Unauthenticated, Unavailable, UnexpectedAnswer, Late for `timeout_s`, and whatever `frames` raises.

        Args:
            frames: taken one after the other.
            timeout_s: how long the whole stream may take; None: without end.
            request_id: for the log of the service.
        """

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the service takes pictures. False also where nothing answers, or not in time."""

    @abstractmethod
    def model(self) -> ModelInfo:
        """What is being served. Over HTTP only: raises NotImplementedError over gRPC, which has no such call."""

    @abstractmethod
    def close(self) -> None:
        """End the connection, and with it all calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncPoseClient(ABC):
    """`PoseClient` for asyncio: the same calls, the same errors. To be used in the event loop that it was made in."""

    @abstractmethod
    async def estimate(
        self,
        image: bytes | Path,
        *,
        boxes_xywh: Sequence[Box] | None = None,
        flip_test: bool = False,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> PoseResult:
        """See `PoseClient.estimate`."""

    @abstractmethod
    def stream(
        self,
        frames: Iterable[Frame] | AsyncIterable[Frame],
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[FrameAnswer]:
        """See `PoseClient.stream`. Frames that are not asynchronous are taken in another thread."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """See `PoseClient.is_ready`."""

    @abstractmethod
    async def model(self) -> ModelInfo:
        """See `PoseClient.model`."""

    @abstractmethod
    async def aclose(self) -> None:
        """End the connection, and with it all calls."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def read_request(image: bytes | Path, boxes_xywh: Sequence[Box] | None, flip_test: bool) -> PoseRequest:
    """What is to be asked. Raises InvalidParameter for boxes that cannot be sent, OSError for an unreadable path."""
    content = image.read_bytes() if isinstance(image, Path) else image
    return PoseRequest(image=content, boxes_xywh=checked_boxes(boxes_xywh), flip_test=flip_test)


def checked_boxes(boxes_xywh: Sequence[Box] | None) -> list[Box] | None:
    """Boxes as plain numbers. Only their form is checked; what numbers make sense is the service's to say."""
    if boxes_xywh is None:
        return None
    if len(boxes_xywh) == 0:
        # gRPC cannot tell it from no boxes at all, and would answer with a pose of the whole picture.
        raise InvalidParameter("boxes_xywh is empty; allowed: one box or more, or None for the whole picture")
    boxes = []
    for number, box in enumerate(boxes_xywh):
        if len(box) != 4:
            raise InvalidParameter(f"boxes_xywh[{number}] is {box!r}; allowed: four numbers x, y, width, height")
        x, y, width, height = map(float, box)
        boxes.append((x, y, width, height))
    return boxes


async def each(frames: Iterable[Frame] | AsyncIterable[Frame]) -> AsyncIterator[Frame]:
    """The frames, asynchronously. A plain iterable is asked in a thread: it may wait for a camera or a disk."""
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
        return
    iterator = iter(frames)
    while (following := await asyncio.to_thread(next, iterator, None)) is not None:
        yield following
