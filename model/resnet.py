"""The convolutional beginning of the network: ResNet stem and bottlenecks (paper section 3.1).

Plain ResNet-50 parts with fewer planes. Knows nothing of attention or of poses.
"""

from __future__ import annotations

from torch import Tensor, nn

from model.variants import EXPANSION


class Stem(nn.Sequential):
    """7x7/2 convolution, batch norm, ReLU, 3x3/2 max-pool: [B, 3, H, W] -> [B, channels, H/4, W/4]."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, kernel_size=7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


class Shortcut(nn.Sequential):
    """1x1 convolution and batch norm that bring a bottleneck's input to the shape of its output."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=bias)
        self.norm = nn.BatchNorm2d(out_channels)


def zero_norm(channels: int) -> nn.BatchNorm2d:
    """The last norm of a residual branch, starting at zero: a fresh bottleneck passes its shortcut on.

    From random weights this decides whether training gets anywhere: random branches are noise, which the network
    first learns to silence, the image with it.
    """
    norm = nn.BatchNorm2d(channels)
    nn.init.zeros_(norm.weight)
    return norm


class ConvBottleneck(nn.Module):
    """1x1 -> 3x3 -> 1x1 with a shortcut: [B, in_channels, H, W] -> [B, 4 * planes, H/stride, W/stride].

    The stride sits on the 3x3 convolution, as in torchvision's ResNet-50.
    """

    def __init__(self, in_channels: int, planes: int, *, stride: int = 1) -> None:
        super().__init__()
        out_channels = planes * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, planes, kernel_size=1, bias=False)
        self.norm1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, kernel_size=1, bias=False)
        self.norm3 = zero_norm(out_channels)
        self.relu = nn.ReLU(inplace=True)
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = Shortcut(in_channels, out_channels, stride=stride) if changes_shape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.relu(self.norm2(self.conv2(out)))
        out = self.norm3(self.conv3(out))
        return self.relu(out + self.shortcut(x))


def conv_group(in_channels: int, planes: int, blocks: int, *, stride: int) -> nn.Sequential:
    """A group of `blocks` bottlenecks, the first with `stride`: -> [B, 4 * planes, H/stride, W/stride]."""
    first = ConvBottleneck(in_channels, planes, stride=stride)
    rest = (ConvBottleneck(planes * EXPANSION, planes) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
