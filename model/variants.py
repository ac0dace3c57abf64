"""The variants of the paper as one table of differences (paper Tables 2-4).

A `PoseConfig` is all that is needed to build the network, to crop for it and to read its heatmaps. It travels inside
every checkpoint. This module knows nothing of tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from model.fields import require
from model.levels import Level
from model.skeleton import COCO, Skeleton

Position = Literal["relative", "absolute"]

STEM_STRIDE = 4  # 7x7/2 convolution, then 3x3/2 max-pool
TOKEN_STRIDE = 2 * STEM_STRIDE  # group 2 halves once more; groups 3 and 4 keep the size
HEATMAP_STRIDE = TOKEN_STRIDE // 2  # the head's deconvolution doubles
EXPANSION = 4  # output channels of a bottleneck per plane

MIN_INPUT = 3 * TOKEN_STRIDE  # smaller heatmaps have no room for the window that finds a peak

WHOLE_NUMBERS = (
    "conv_planes",
    "mhsa_planes",
    "blocks",
    "input_hw",
    "mhsa_heads",
    "model_dim",
    "encoder_layers",
    "encoder_heads",
    "encoder_ff_dim",
)


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """One architecture, its input size and the way its targets are drawn.

    `conv_planes` and `mhsa_planes` list the planes of the convolutional and of the attention groups, in order; `blocks`
    is the number of bottlenecks of each group, in the same order. `input_hw` is (rows, columns) of the crop in pixels.
    `heatmap_sigma` is the standard deviation of the target Gaussian in heatmap pixels. `skeleton` says which keypoints
    the network finds.

    Raises ValueError, naming the field, its value and what is allowed, for anything that cannot be built.
    """

    key: str
    label: str
    conv_planes: tuple[int, ...]
    mhsa_planes: tuple[int, ...]
    blocks: tuple[int, ...]
    mhsa_heads: int = 4
    position: Position = "relative"
    input_hw: tuple[int, int] = (256, 192)
    model_dim: int = 256
    encoder_layers: int = 4
    encoder_heads: int = 8
    encoder_ff_dim: int = 1024
    dropout: float = 0.1
    heatmap_sigma: float = 2.0
    skeleton: Skeleton = COCO

    def __post_init__(self) -> None:
        self._check_types()
        self._check_groups()
        self._check_sizes()

    def _check_types(self) -> None:
        for name in WHOLE_NUMBERS:
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            require(all(isinstance(number, int) for number in numbers), name, value, "whole numbers")

    def _check_groups(self) -> None:
        require(len(self.conv_planes) >= 2, "conv_planes", self.conv_planes, "at least two groups")
        require(len(self.mhsa_planes) >= 1, "mhsa_planes", self.mhsa_planes, "at least one group")
        planes = self.conv_planes + self.mhsa_planes
        require(min(planes) > 0, "planes", planes, "positive integers")
        require(
            len(self.blocks) == len(planes) and min(self.blocks) > 0,
            "blocks",
            self.blocks,
            f"one positive number for each of the {len(planes)} groups",
        )

    def _check_sizes(self) -> None:
        for name, dim, heads in (
            ("mhsa_heads", min(self.mhsa_planes), self.mhsa_heads),
            ("mhsa_heads", max(self.mhsa_planes), self.mhsa_heads),
            ("encoder_heads", self.model_dim, self.encoder_heads),
        ):
            require(heads > 0 and dim % heads == 0, name, heads, f"a divisor of {dim}")
        require(
            self.position in get_args(Position), "position", self.position, " or ".join(map(repr, get_args(Position)))
        )
        height, width = self.input_hw
        require(
            min(height, width) >= MIN_INPUT and height % TOKEN_STRIDE == 0 and width % TOKEN_STRIDE == 0,
            "input_hw",
            self.input_hw,
            f"(rows, columns), each a multiple of {TOKEN_STRIDE} and at least {MIN_INPUT}",
        )
        require(self.model_dim > 0, "model_dim", self.model_dim, "at least 1")
        require(self.encoder_layers > 0, "encoder_layers", self.encoder_layers, "at least 1")
        require(self.encoder_ff_dim > 0, "encoder_ff_dim", self.encoder_ff_dim, "at least 1")
        require(0.0 <= self.dropout < 1.0, "dropout", self.dropout, "in [0, 1)")
        require(self.heatmap_sigma > 0.0, "heatmap_sigma", self.heatmap_sigma, "positive")

    @property
    def planes(self) -> tuple[int, ...]:
        """Planes of every group, convolutional ones first."""
        return self.conv_planes + self.mhsa_planes

    @property
    def tokens_hw(self) -> tuple[int, int]:
        """(rows, columns) of the attention maps: 32 x 24 for a 256 x 192 crop."""
        return self.input_hw[0] // TOKEN_STRIDE, self.input_hw[1] // TOKEN_STRIDE

    @property
    def heatmap_hw(self) -> tuple[int, int]:
        """(rows, columns) of the heatmaps: 64 x 48 for a 256 x 192 crop."""
        return self.input_hw[0] // HEATMAP_STRIDE, self.input_hw[1] // HEATMAP_STRIDE

    def attention_layers(self, level: Level) -> int:
        """Layers whose attention is shown: the bottlenecks of the last MHSA group, or the layers of the encoder."""
        return self.blocks[-1] if level == "mhsa" else self.encoder_layers

    def attention_heads(self, level: Level) -> int:
        """Attention heads of each layer of a level."""
        return self.mhsa_heads if level == "mhsa" else self.encoder_heads

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.skeleton)

    def to_json(self) -> dict[str, Any]:
        """Plain types only, as stored in a checkpoint. `num_keypoints` is told for who reads it; `skeleton` decides."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"num_keypoints": self.num_keypoints, "skeleton": self.skeleton.to_json()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> PoseConfig:
        """The inverse of `to_json`. Raises ValueError for unknown, missing or impossible fields.

        What was written before there were other keypoint sets has no `skeleton`: then it is COCO's.
        """
        given = {"skeleton": COCO.to_json(), **stored}
        num_keypoints = given.pop("num_keypoints", None)
        known = {field.name for field in fields(cls)}
        if set(given) != known:
            raise ValueError(
                f"configuration fields differ: unknown {sorted(set(given) - known)}, "
                f"missing {sorted(known - set(given))}"
            )
        skeleton = Skeleton.from_json(given.pop("skeleton"))
        require(
            num_keypoints in (None, len(skeleton)),
            "num_keypoints",
            num_keypoints,
            f"{len(skeleton)}, as many as the skeleton has" + ("" if "skeleton" in stored else " (none: COCO's)"),
        )
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            return cls(**values, skeleton=skeleton)
        except TypeError as error:
            raise ValueError(f"configuration has a field of the wrong type: {error}") from error


_BASE = PoseConfig(key="c3a1-4", label="C3A1(4)", conv_planes=(64, 96, 128), mhsa_planes=(256,), blocks=(3, 4, 6, 3))

_ROWS = (
    replace(_BASE, key="c2a1-4", label="C2A1(4)", conv_planes=(64, 96), mhsa_planes=(128,), blocks=(3, 4, 6)),
    replace(_BASE, key="c2a2-4", label="C2A2(4)", conv_planes=(64, 96), mhsa_planes=(128, 256)),
    _BASE,
    replace(_BASE, key="c3a1-8", label="C3A1(8)", mhsa_heads=8),
    replace(_BASE, key="c3a1-4-n6", label="C3A1(4)-N6", encoder_layers=6),
    replace(_BASE, key="c3a1-4-large", label="C3A1(4)-Large", conv_planes=(64, 128, 256), mhsa_planes=(512,)),
)

VARIANTS: dict[str, PoseConfig] = {row.key: row for row in _ROWS}


def variant(key: str, **changes: Any) -> PoseConfig:
    """The configuration of one row of the table, with `changes` applied to its fields.

    Raises ValueError, listing the keys, for an unknown one.
    """
    if key not in VARIANTS:
        raise ValueError(f"variant is {key!r}; allowed: {', '.join(VARIANTS)}")
    return replace(VARIANTS[key], **changes)
