"""The clip of a virtual camera: frames and what is true of them, made when they are asked for.

People do not move by themselves: only the camera does, and a bar that may pass before it. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from camera_path import CameraPath, PathSettings
from camera_scenes import Scene, ScenePerson, mapped, surrounded
from frame_truth import HIDDEN, OUTSIDE, Frame, FramePerson, FrameTruth

from model.crop import Pixels, warp_crop
from model.geometry import Array, clip_box
from model.skeleton import COCO

BAR_PART = 0.5  # of the frame's width
BAR_LEVEL = 70  # grey
SLACK = 64  # pixels by which the field of noise is larger than a frame


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What a clip is like, beside its scenes.

    path: how the camera moves. fps: frames a second. scene_s: seconds of each scene; then there is a cut.
    min_joints: a person is `visible` if so many labelled joints are inside the frame and not behind the bar.
    bar_every_s: a bar begins to pass so often, first after half of that; 0: never. bar_hides_s: how long it hides one
    and the same point. noise_levels: standard deviation of grey noise in each channel. seed: of everything.

    Raises ValueError naming the value and what is allowed.
    """

    path: PathSettings = field(default_factory=PathSettings)
    fps: float = 25.0
    scene_s: float = 10.0
    min_joints: int = 6
    bar_every_s: float = 0.0
    bar_hides_s: float = 0.5
    noise_levels: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        bar_passes_s = (1 + BAR_PART) / BAR_PART * self.bar_hides_s
        for name, allowed, is_fit in (
            ("fps", "1 to 240", 1 <= self.fps <= 240),
            (
                "scene_s",
                "at least the time of one frame, up to an hour",
                self.scene_s <= 3600 and self.scene_s * self.fps >= 1,
            ),
            ("min_joints", f"1 to {len(COCO)}", 1 <= self.min_joints <= len(COCO)),
            ("bar_hides_s", "above 0, up to 60", 0 < self.bar_hides_s <= 60),
            ("bar_every_s", f"0, or at least {bar_passes_s:g}", not 0 != self.bar_every_s < bar_passes_s),
            ("noise_levels", "0 to 50", 0 <= self.noise_levels <= 50),
            ("seed", "0 or more", self.seed >= 0),
        ):
            if not is_fit:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: {allowed}")


class VirtualCamera:
    """A clip over some scenes, one after the other. Frames are made when they are asked for, the same ones each time.

    Args:
        scenes: at least one.
        settings: of the clip.
    """

    def __init__(self, scenes: Sequence[Scene], settings: ClipSettings) -> None:
        if not scenes:
            raise ValueError("there are 0 scenes; allowed: at least 1")
        self.settings = settings
        self._scenes = tuple(scenes)
        self._frames_each = max(1, round(settings.scene_s * settings.fps))
        self._first_ids = np.cumsum([1, *(len(scene.persons) for scene in scenes)])
        self._paths = [
            CameraPath(scene.image.shape[:2], scene.aim_xywh(), settings.path, _drawn(settings.seed, number))
            for number, scene in enumerate(scenes)
        ]

    def __len__(self) -> int:
        """Frames of the clip."""
        return self._frames_each * len(self._scenes)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Of a frame, in pixels."""
        rows, columns = self.settings.path.frame_hw
        return columns, rows

    def truth(self) -> Iterator[FrameTruth]:
        """The frames without their pixels."""
        for index in range(len(self)):
            yield self._truth(index)

    def frames(self) -> Iterator[Frame]:
        """The frames."""
        noise = self._noise()
        for number, (scene, path) in enumerate(zip(self._scenes, self._paths, strict=True)):
            margin = path.margin()
            wide = surrounded(scene.image, margin)
            for index in range(number * self._frames_each, (number + 1) * self._frames_each):
                truth = self._truth(index)
                affine = path.affine(truth.time_s)
                affine[:, 2] -= affine[:, :2] @ (margin, margin)
                image = warp_crop(wide, affine, self.settings.path.frame_hw)
                self._draw_bar(image, truth.time_s)
                image = self._noisy(image, noise, index)
                yield Frame(index=index, time_s=truth.time_s, size_wh=truth.size_wh, persons=truth.persons, image=image)

    def _truth(self, index: int) -> FrameTruth:
        number = index // self._frames_each
        time_s = index / self.settings.fps
        affine = self._paths[number].affine(time_s)
        persons = []
        for person_id, person in enumerate(self._scenes[number].persons, start=int(self._first_ids[number])):
            seen = self._seen(person_id, mapped(person, affine), time_s)
            if seen.box_xywh[2:].all():
                persons.append(seen)
        return FrameTruth(index=index, time_s=time_s, size_wh=self.size_wh, persons=tuple(persons))

    def _seen(self, person_id: int, person: ScenePerson, time_s: float) -> FramePerson:
        """The person as this frame shows them, in frame pixels."""
        width, height = self.size_wh
        x, y = person.points_image.T
        inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
        left, right = self._bar(time_s)
        covered = inside & (person.visibility > OUTSIDE) & (x >= left - 0.5) & (x < right - 0.5)
        visibility = np.where(inside, np.where(covered, HIDDEN, person.visibility), OUTSIDE)
        return FramePerson(
            person_id=person_id,
            annotation_id=person.annotation_id,
            keypoints_image=person.points_image,
            visibility=visibility,
            box_xywh=clip_box(person.box_xywh, width, height),
            area=person.area,
            visible=int(((visibility > OUTSIDE) & ~covered).sum()) >= self.settings.min_joints,
            occluded=bool(covered.any()),
        )

    def _bar(self, time_s: float) -> tuple[int, int]:
        """First column that the bar covers, and first behind it; both may lie outside. Equal where there is none."""
        settings, width = self.settings, self.size_wh[0]
        if settings.bar_every_s == 0:
            return 0, 0
        since_s = (time_s + settings.bar_every_s / 2) % settings.bar_every_s
        bar = BAR_PART * width
        left = round(since_s * bar / settings.bar_hides_s - bar)
        return min(left, width), min(left + round(bar), width)

    def _draw_bar(self, image: Pixels, time_s: float) -> None:
        left, right = (max(column, 0) for column in self._bar(time_s))
        image[:, left:right] = BAR_LEVEL

    def _noise(self) -> Array | None:
        """A field somewhat larger than a frame, of which each frame gets another part: drawing it anew is slow."""
        if self.settings.noise_levels == 0:
            return None
        rows, columns = self.settings.path.frame_hw
        rng = _drawn(self.settings.seed, len(self._scenes))
        return np.rint(rng.normal(scale=self.settings.noise_levels, size=(rows + SLACK, columns + SLACK, 3)))

    def _noisy(self, image: Pixels, noise: Array | None, index: int) -> Pixels:
        if noise is None:
            return image
        top, left = _drawn(self.settings.seed, len(self._scenes), index).integers(SLACK, size=2)
        rows, columns = image.shape[:2]
        return np.clip(image + noise[top : top + rows, left : left + columns], 0, 255).astype(np.uint8)


def _drawn(*seeds: int) -> np.random.Generator:
    return np.random.default_rng(seeds)
