"""The pictures that a client sends and what is checked of them first, one by one or as frames of a stream.

Knows nothing of HTTP or gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import InvalidParameter, PoseServiceError
from service.poses import Box, PoseRequest, PoseResult

MAX_AHEAD = 16  # frames of a stream that are sent before the first of them is answered
MAX_AHEAD_LIVE = 64  # the same of a live stream, where those that are dropped are told only with an answer

RawPixels = npt.NDArray[np.uint8]  # [H, W, 3] RGB of the upright picture


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a stream: either `image` or `raw`. Raises InvalidParameter for what cannot be sent.

    Args:
        frame_id: 0 to 2**64 - 1; comes back with the answer, and need not be unique or ordered.
        image: the bytes of a JPEG, PNG or WebP file, or its path, read when its turn comes.
        boxes_xywh: one for each person, in pixels of the upright picture; None: the service finds the persons and
            follows them (over HTTP it finds them anew in each; without a detector the whole picture is one person).
        flip_test: also look at the mirrored picture.
        raw: [H, W, 3] uint8 RGB, the pixels of the upright picture, for a link that is faster than compressing is; read
            when its turn comes. gRPC only.
        captured_us: when the frame was taken, in microseconds of any clock that goes forward, such as the video's own;
            None: when it arrived. Motion and smoothing are reckoned with it.
    """

    frame_id: int
    image: bytes | Path | None = None
    boxes_xywh: Sequence[Box] | None = None
    flip_test: bool = False
    raw: RawPixels | None = None
    captured_us: int | None = None

    def __post_init__(self) -> None:
        _check_u64("frame_id", self.frame_id)
        if self.captured_us is not None:
            _check_u64("captured_us", self.captured_us)
        if (self.image is None) == (self.raw is None):
            given = "neither image nor raw" if self.image is None else "both image and raw"
            raise InvalidParameter(f"frame {self.frame_id} has {given}; allowed: one of them")
        if self.raw is not None:
            _check_raw(self.raw)
        checked_boxes(self.boxes_xywh)


@dataclass(frozen=True)
class FrameAnswer:
    """The answer to one frame: either `result`, or the `error` that this frame met. The other is None.

    dropped_frames: of a live stream, how many frames were dropped between the answer before and this one: by the
        service, which did not come to them, or by this client, because the link did not take them.
    dropped_frame_ids: those frames, in their order.
    detected: whether the service's detector looked at this frame.
    age_s: from the frame's arrival at the service to its answer; 0 where the service does not say.
    """

    frame_id: int
    result: PoseResult | None
    error: PoseServiceError | None
    dropped_frames: int = 0
    dropped_frame_ids: tuple[int, ...] = ()
    detected: bool = False
    age_s: float = 0.0


def read_request(image: bytes | Path, boxes_xywh: Sequence[Box] | None, flip_test: bool) -> PoseRequest:
    """What is to be asked. Raises InvalidParameter for boxes that cannot be sent, OSError for an unreadable path."""
    content = image.read_bytes() if isinstance(image, Path) else image
    return PoseRequest(image=content, boxes_xywh=checked_boxes(boxes_xywh), flip_test=flip_test)


def checked_boxes(boxes_xywh: Sequence[Box] | None) -> list[Box] | None:
    """Boxes as plain numbers. Only their form is checked; what numbers make sense is the service's to say."""
    if boxes_xywh is None:
        return None
    if len(boxes_xywh) == 0:
        # gRPC cannot tell it from no boxes at all, and would look for persons itself.
        raise InvalidParameter(
            "boxes_xywh is empty; allowed: one box or more, or None for those that the service finds"
        )
    boxes = []
    for number, box in enumerate(boxes_xywh):
        if len(box) != 4:
            raise InvalidParameter(f"boxes_xywh[{number}] is {box!r}; allowed: four numbers x, y, width, height")
        x, y, width, height = map(float, box)
        boxes.append((x, y, width, height))
    return boxes


def _check_u64(name: str, value: int) -> None:
    if not 0 <= value < 2**64:
        raise InvalidParameter(f"{name} is {value}; allowed: 0 to 2**64 - 1")


def _check_raw(raw: object) -> None:
    found = f"{raw.dtype} of shape {raw.shape}" if isinstance(raw, np.ndarray) else type(raw).__name__
    if not (isinstance(raw, np.ndarray) and raw.ndim == 3 and raw.shape[2] == 3 and raw.size and raw.dtype == np.uint8):
        raise InvalidParameter(f"raw is {found}; allowed: a uint8 array [height, width, 3]")


async def each(frames: Iterable[Frame] | AsyncIterable[Frame]) -> AsyncIterator[Frame]:
    """The frames, asynchronously. A plain iterable is asked in a thread: it may wait for a camera or a disk."""
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
        return
    iterator = iter(frames)
    while (following := await asyncio.to_thread(next, iterator, None)) is not None:
        yield following
