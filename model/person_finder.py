"""A small network of our own that finds people: where their centres are, and how far the sides of their boxes.

Stem and bottlenecks are those of the pose network (`model.resnet`), fewer of them and down to a stride of 32, because a
person may fill the picture; what they see comes together again at a stride of 8, where each place says how likely it is
a person's centre. Centres as in "Objects as Points" (Zhou et al. 2019), sides as in FCOS (Tian et al. 2019).

Knows nothing of pictures of other sizes, of files, or of losses.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.fields import require
from model.resnet import Stem, conv_group
from model.variants import EXPANSION

STRIDE = 8  # input pixels between two places that may be a centre
COARSEST = 32  # sides of an input are multiples of it
RARE = 0.01  # how likely each place is a centre before anything is learned: nearly none is
MAX_LOG_SIDE = 7.0  # keeps an exponent from overflowing; 8 * e^7 pixels are more than any picture has


@dataclass(frozen=True)
class FinderConfig:
    """The shape of a network.

    input_side: rows and columns of the pictures that it looks at, which are letterboxed to it. stem_channels; planes
    and blocks of the four groups, at strides 4, 8, 16 and 32; neck_channels: where the last three come together.

    Raises ValueError, naming field and value, for what cannot be built.
    """

    input_side: int = 320
    stem_channels: int = 64
    planes: tuple[int, int, int, int] = (64, 96, 96, 64)
    blocks: tuple[int, int, int, int] = (3, 4, 2, 3)
    neck_channels: int = 80

    def __post_init__(self) -> None:
        side = self.input_side
        require(side > 0 and side % COARSEST == 0, "input_side", side, f"a multiple of {COARSEST}, above 0")
        for name in ("stem_channels", "neck_channels"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("planes", "blocks"):
            value = getattr(self, name)
            require(len(value) == 4 and min(value) > 0, name, value, "four numbers above 0")

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> FinderConfig:
        """The inverse of `to_json`. Raises ValueError or TypeError for fields that are unknown or wrong."""
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in stored.items()}
        return cls(**fields)


class Trunk(nn.Sequential):
    """What the pose network has, too: [B, 3, H, W] -> [B, C, H/8, W/8]."""

    def __init__(self, stem_channels: int, group4: nn.Sequential, group8: nn.Sequential) -> None:
        super().__init__()
        self.stem = Stem(stem_channels)
        self.group4 = group4
        self.group8 = group8


class Merge(nn.Module):
    """A finer and a coarser map become one: [B, F, H, W] and [B, C, H/2, W/2] -> [B, C, H, W]."""

    def __init__(self, fine_channels: int, channels: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(fine_channels, channels, kernel_size=1)
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        merged = self.lateral(fine) + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        return F.relu(self.norm(self.conv(merged)))


class PersonFinder(nn.Module):
    """See the module.

    Args of `forward`:
        pixels: [B, 3, H, W] float, RGB, normalised by `crop.normalise`; H and W multiples of 32.

    Returns:
        [B, 5, H/8, W/8]: the logit of being a person's centre, and the logarithms of the distances to the left, top,
        right and bottom side of that person's box, in units of 8 input pixels.
    """

    def __init__(self, config: FinderConfig) -> None:
        super().__init__()
        self.config = config
        channels = [config.stem_channels, *(EXPANSION * planes for planes in config.planes)]
        groups = [
            conv_group(channels[number], planes, blocks, stride=1 if number == 0 else 2)
            for number, (planes, blocks) in enumerate(zip(config.planes, config.blocks, strict=True))
        ]
        neck = config.neck_channels
        self.trunk = Trunk(config.stem_channels, *groups[:2])
        self.group16, self.group32 = groups[2:]
        self.reduce = nn.Conv2d(channels[4], neck, kernel_size=1)
        self.merge16 = Merge(channels[3], neck)
        self.merge8 = Merge(channels[2], neck)
        self.conv = nn.Conv2d(neck, neck, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(neck)
        self.head = nn.Conv2d(neck, 5, kernel_size=1)
        nn.init.normal_(self.head.weight, std=0.01)
        # At first nothing is a centre, and a box is some 50 pixels in each direction.
        self.head.bias = nn.Parameter(torch.tensor([math.log(RARE / (1 - RARE)), 1.8, 1.8, 1.8, 1.8]))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.find(self.trunk(pixels))

    def find(self, at8: Tensor) -> Tensor:
        """What `forward` gives, from what the trunk gives: [B, C, H/8, W/8] -> [B, 5, H/8, W/8]."""
        at16 = self.group16(at8)
        at32 = self.group32(at16)
        x = self.merge16(at16, self.reduce(at32))
        x = self.merge8(at8, x)
        return self.head(F.relu(self.norm(self.conv(x))))


def decode_boxes(found: Tensor) -> Tensor:
    """What the network says as boxes: [B, 5, h, w] -> [B, h, w, 4], left, top, right, bottom edges in input pixels.

    Edges lie between pixels: an input of 320 x 320 is 0, 0, 320, 320.
    """
    height, width = found.shape[-2:]
    rows = (torch.arange(height, device=found.device) + 0.5)[:, None].expand(height, width)
    columns = (torch.arange(width, device=found.device) + 0.5)[None, :].expand(height, width)
    left, top, right, bottom = found[:, 1:].clamp(max=MAX_LOG_SIDE).exp().unbind(1)
    return STRIDE * torch.stack((columns - left, rows - top, columns + right, rows + bottom), dim=-1)
