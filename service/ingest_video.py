"""A video with the skeletons drawn in: the source's own size and times, a colour and a number for each person.

Written so that what is there plays also when it is cut off.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from model.drawing import SHOWN_ABOVE, draw_identity, draw_pose, identity_rgb
from model.skeleton import Skeleton
from service.client_frames import RawPixels
from service.ingest_output import OutputFailed
from service.ingest_stream import Answered
from service.poses import ModelInfo, Pose

SUFFIX = ".mp4"
TICKS_S = 60_000  # in a second; the times of 24, 25, 30 and 60 frames a second, and of television's 30/1.001, are whole
USUAL_RATE = Fraction(30)
KEY_FRAME_EVERY = 60  # frames; so many are in one fragment, and lost if the machine fails
# The first that there is. Without frames that refer to later ones (bf), each is written when it comes.
ENCODERS = {"libx264": {"preset": "veryfast", "crf": "20", "bf": "0"}, "mpeg4": {"qscale": "3"}}


class AnnotatedVideo:
    """An MP4 of the frames that were answered, each at its time. Opened with the first of them, which gives the size.

    Args:
        path: written anew.
        frame_rate: of the source, as the file says it; the times of the frames are their own.
        sample_aspect_ratio: of the source's pixels as they are stored.

    Raises OutputFailed, where the file cannot be opened or written.
    """

    def __init__(self, path: Path, *, frame_rate: Fraction | None, sample_aspect_ratio: Fraction | None) -> None:
        self._path, self._rate, self._ratio = path, frame_rate or USUAL_RATE, sample_aspect_ratio
        self._stream: VideoStream | None = None
        self._last_tick = -1
        self._has_failed = False
        # What is written is at once in fragments, which play without an end; closing makes it a plain file.
        how = {"movflags": "hybrid_fragmented", "flush_packets": "1"}
        try:
            self._container = av.open(str(path), "w", format="mp4", options=how)
        except OSError as error:
            raise OutputFailed(f"{path}: {error.strerror}") from error

    def write(self, answered: Answered, model: ModelInfo | None) -> None:
        """Add one frame, with its persons drawn in."""
        drawn = answered.frame.pixels.copy()
        if model is not None and answered.poses:
            draw_persons(drawn, answered.poses, Skeleton.to_draw(model.keypoint_names, model.skeleton))
        try:
            if self._stream is None:
                self._stream = self._opened(drawn, answered.frame.picture)
            self._encode(self._stream, drawn, answered.frame.time_s)
        except (av.FFmpegError, OSError) as error:
            self._has_failed = True
            raise OutputFailed(f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Finish the file. Raises OutputFailed; what was written before plays all the same."""
        try:
            if self._stream is not None and not self._has_failed:  # PyAV crashes if it is asked again after a failure
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise OutputFailed(f"{self._path}: {error.strerror}") from error

    def _opened(self, first: RawPixels, stored: av.VideoFrame) -> VideoStream:
        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        stream = self._container.add_stream(encoder, rate=self._rate, options=ENCODERS[encoder])
        assert isinstance(stream, VideoStream)
        height, width = first.shape[:2]
        stream.width, stream.height = width + width % 2, height + height % 2  # colours are for two by two pixels
        stream.pix_fmt = "yuv420p"
        stream.gop_size = KEY_FRAME_EVERY
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS_S)
        if self._ratio is not None:
            is_turned = (width, height) != (stored.width, stored.height)
            stream.codec_context.sample_aspect_ratio = 1 / self._ratio if is_turned else self._ratio
        return stream

    def _encode(self, stream: VideoStream, drawn: RawPixels, time_s: float) -> None:
        picture = av.VideoFrame.from_ndarray(_fitted(drawn, (stream.width, stream.height)), format="rgb24")
        self._last_tick = max(self._last_tick + 1, round(time_s * TICKS_S))
        picture.pts, picture.time_base = self._last_tick, Fraction(1, TICKS_S)
        self._container.mux(stream.encode(picture))


def draw_persons(image: RawPixels, poses: tuple[Pose, ...], skeleton: Skeleton) -> None:
    """Skeletons and numbers into an image, in place; those who are not followed have no number.

    Poses of other keypoints than the skeleton's are left out: the service may have been given another network.
    """
    fitting = [pose for pose in poses if len(pose.keypoints) == len(skeleton)]
    for pose in fitting:
        keypoints = np.array(pose.keypoints)
        color = identity_rgb(pose.track_id) if pose.track_id else None
        draw_pose(image, keypoints[:, :2], keypoints[:, 2] > SHOWN_ABOVE, skeleton, limbs_rgb=color)
    for pose in fitting:
        if pose.track_id:
            keypoints = np.array(pose.keypoints)
            draw_identity(image, keypoints[:, :2], keypoints[:, 2] > SHOWN_ABOVE, pose.track_id)


def _fitted(image: RawPixels, size: tuple[int, int]) -> RawPixels:
    """An image in the size of the video: an odd side has its edge twice; another size than the first is scaled."""
    width, height = size
    across, down = width - image.shape[1], height - image.shape[0]
    if (across, down) == (0, 0):
        return image
    if across in (0, 1) and down in (0, 1):
        return np.pad(image, ((0, down), (0, across), (0, 0)), mode="edge")
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
