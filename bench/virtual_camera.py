"""A video whose every joint is known: a camera moves over annotated photographs.

    python bench/virtual_camera.py --annotations coco/annotations/person_keypoints_dev.json --images coco/dev \
        --people 2 --scenes 3 --out clip.mp4 --truth truth.jsonl

Each frame is one affine warp of a photograph, and the joints, boxes and areas of its persons are mapped by the same
affine: what is true of a frame is exact up to the annotation itself. The camera pans and zooms slowly and shakes as a
hand does (`camera_path`); people leave the view and come back as who they were. After a cut there is another photograph
with other people. A bar that passes close before the camera (`--bar-every`) hides people for about half a second.

What it is not: people do not move by themselves; a photograph of 512 pixels of which two thirds are seen is enlarged
about twice to a frame of 640x480, and soft; without `--noise`, a camera that stands still shows the same frame again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from camera_clip import ClipSettings, VirtualCamera
from camera_path import PathSettings
from camera_scenes import MOST_IN_ONE, Photographs
from frame_truth import Frame, write_line
from PIL import Image
from results import progress

from model.crop import Pixels
from model.drawing import draw_pose
from model.skeleton import COCO
from training.coco import AnnotationError, read_persons
from training.sheet import grid

PAN_OF_MANY = 0.4  # most of them stay in the view
TILES = 12  # of a sheet
CODEC = "mpeg4"  # FFmpeg's own
BIT_RATE = 8_000_000  # of 640x480 at 25 frames a second: hardly to be told from the frames


def write_video(
    frames: Iterable[Frame], path: Path, *, size_wh: tuple[int, int], fps: float, codec: str = CODEC
) -> None:
    """An MP4 whose n-th frame is the n-th of `frames`, shown at n / fps seconds.

    Args:
        size_wh: pixels of a frame, even numbers.
        codec: an encoder that PyAV brings. mpeg4 is FFmpeg's own; libx264 makes files that browsers show.

    Raises ValueError for an encoder that is not there.
    """
    if not _encodes_video(codec):
        raise ValueError(f"codec is {codec!r}; allowed: a video encoder of PyAV, such as {CODEC}")
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = BIT_RATE
        stream.width, stream.height = size_wh
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _encodes_video(codec: str) -> bool:
    try:
        return av.Codec(codec, "w").type == "video"
    except ValueError:  # UnknownCodecError is one
        return False


def draw_truth(frame: Frame) -> Pixels:
    """The frame with what is true of it: labelled joints, and boxes: white, grey for who is not `visible`."""
    drawn = frame.image.copy()
    for person in frame.persons:
        draw_pose(drawn, person.keypoints_image, person.labelled, COCO)
        x, y, width, height = np.rint(person.box_xywh).astype(int)
        level = 255 if person.visible else 128
        drawn[y : y + height, [max(x, 0), min(x + width, drawn.shape[1]) - 1]] = level
        drawn[[max(y, 0), min(y + height, drawn.shape[0]) - 1], x : x + width] = level
    return drawn


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which photographs, and how the camera moves over them."""
    add, path, clip = parser.add_argument, PathSettings(), ClipSettings()
    add("--annotations", type=Path, required=True, help="COCO person keypoints")
    add("--images", type=Path, required=True, help="the folder of their photographs")
    add("--scenes", type=int, default=3, help="photographs, or groups of them, one after the other (3)")
    add("--scene-seconds", type=float, default=clip.scene_s, help=f"seconds of each ({clip.scene_s:g})")
    add("--fps", type=float, default=clip.fps, help=f"frames a second ({clip.fps:g})")
    add("--size", default="640x480", metavar="WxH", help="of a frame (640x480)")
    add("--view", type=float, default=path.view, help=f"part of the picture that is seen at least ({path.view})")
    add("--pan", type=float, help=f"how far it turns away: at 1 all have left ({path.pan[0]}; from many {PAN_OF_MANY})")
    add("--zoom", type=float, default=path.zoom, help=f"by what factor it narrows at most ({path.zoom})")
    add("--roll", type=float, default=path.roll_degrees, help="degrees by which it tilts at most (0)")
    add("--shake", type=float, default=path.shake_px, help=f"RMS pixels along each axis ({path.shake_px:g})")
    add("--bar-every", type=float, default=0.0, metavar="SECONDS", help="a bar passes so often (0: never)")
    add("--noise", type=float, default=0.0, metavar="LEVELS", help="standard deviation of grey noise (0)")
    add("--min-joints", type=int, default=clip.min_joints, help=f"in sight, to count as visible ({clip.min_joints})")
    add("--seed", type=int, default=0)


def camera_of(given: argparse.Namespace, people: int) -> VirtualCamera:
    """The clip that the options ask for. Raises ValueError and training.coco.AnnotationError."""
    width, _, height = given.size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ValueError(f"size is {given.size!r}; allowed: WIDTHxHEIGHT, such as 640x480")
    photographs = Photographs(read_persons(given.annotations, given.images), seed=given.seed)
    scenes = [photographs.scene(people) for _ in range(given.scenes)]
    pan = PathSettings.pan[0] if people <= MOST_IN_ONE else PAN_OF_MANY
    path = PathSettings(
        frame_hw=(int(height), int(width)),
        view=given.view,
        pan=(pan if given.pan is None else given.pan, PathSettings.pan[1]),
        zoom=given.zoom,
        roll_degrees=given.roll,
        shake_px=given.shake,
    )
    settings = ClipSettings(
        path=path,
        fps=given.fps,
        scene_s=given.scene_seconds,
        min_joints=given.min_joints,
        bar_every_s=given.bar_every,
        noise_levels=given.noise,
        seed=given.seed,
    )
    return VirtualCamera(scenes, settings)


def _told(camera: VirtualCamera) -> Iterator[Frame]:
    for frame in camera.frames():
        if frame.index % 100 == 0:
            progress(f"frame {frame.index} of {len(camera)}")
        yield frame


def main() -> int:
    """Write what is asked for; 2 if it cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    add = parser.add_argument
    add("--people", type=int, default=2, help="in each scene (2); above 4, photographs side by side")
    add("--out", type=Path, metavar="MP4", help="the video")
    add("--codec", default=CODEC, help=f"its encoder ({CODEC}); libx264 for a file that browsers show")
    add("--truth", type=Path, metavar="JSONL", help="what is true of each frame")
    add("--sheet", type=Path, metavar="PNG", help=f"{TILES} of the frames with what is true of them")
    given = parser.parse_args()
    try:
        camera = camera_of(given, given.people)
        if given.out:
            write_video(_told(camera), given.out, size_wh=camera.size_wh, fps=given.fps, codec=given.codec)
    except (AnnotationError, ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    if given.truth:
        with given.truth.open("w") as lines:
            lines.writelines(f"{write_line(truth)}\n" for truth in camera.truth())
    if given.sheet:
        every = max(1, len(camera) // TILES)
        tiles = [draw_truth(frame) for frame in islice(camera.frames(), 0, every * TILES, every)]
        rows = [tiles[start : start + 3] for start in range(0, len(tiles), 3)]
        Image.fromarray(grid(rows, [""] * len(rows), [""] * 3)).save(given.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
