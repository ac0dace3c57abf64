"""The pictures that a client sends and what is checked of them first, one by one or as frames of a stream.

Knows nothing of HTTP or gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidParameter, PoseServiceError
from service.poses import Box, PoseRequest, PoseResult

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
