"""The network: backbone (stem, bottleneck groups, encoder) and deconvolution head (paper section 3, Figure 2, Table 5).

It maps normalised crops to heatmaps. It does not crop, normalise, decode or compute a loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.attention import AttentionBottleneck, AttentionCollector
from model.encoder import EncoderLayer
from model.positions import resample_grid
from model.resnet import Stem, conv_group
from model.variants import EXPANSION, PoseConfig

STEM_CHANNELS = 64
HEAD_STD = 0.001  # heatmaps start near zero, where most of every target is


class Backbone(nn.Module):
    """Everything that self-supervised pre-training trains: [B, 3, H, W] -> [B, C, H/8, W/8], C = `model_dim`."""

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        self.tokens_hw = config.tokens_hw
        self.stem = Stem(STEM_CHANNELS)
        self.conv_groups, channels = _conv_groups(config)
        self.mhsa_groups, channels = _mhsa_groups(config, channels)
        self.reduce = nn.Conv2d(channels, config.model_dim, kernel_size=1, bias=False)
        tokens = self.tokens_hw[0] * self.tokens_hw[1]
        self.position_embedding = nn.Parameter(torch.empty(tokens, config.model_dim))
        self.encoder = nn.ModuleList(
            EncoderLayer(config.model_dim, config.encoder_heads, config.encoder_ff_dim, config.dropout)
            for _ in range(config.encoder_layers)
        )
        nn.init.trunc_normal_(self.position_embedding, std=0.02)

    def forward(self, x: Tensor, collector: AttentionCollector | None = None) -> Tensor:
        x = self.conv_groups(self.stem(x))  # [B, 3, H, W] -> [B, 4 * planes, H/8, W/8]
        for group in self.mhsa_groups:
            for block in group:  # type: ignore[attr-defined]
                x = block(x, collector)
        x = self.reduce(x)  # [B, C, H/8, W/8]
        height, width = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)  # [B, C, H/8, W/8] -> [B, N, C]
        tokens = tokens + resample_grid(self.position_embedding, self.tokens_hw, (height, width))
        for layer in self.encoder:
            tokens = layer(tokens, collector)
        return tokens.transpose(1, 2).reshape(x.shape)  # [B, N, C] -> [B, C, H/8, W/8]


class Head(nn.Module):
    """Heatmaps at twice the resolution of the tokens: [B, C, H, W] -> [B, K, 2H, 2W]."""

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        dim = config.model_dim
        self.deconv = nn.ConvTranspose2d(dim, dim, kernel_size=4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.relu = nn.ReLU(inplace=True)
        self.heatmaps = nn.Conv2d(dim, config.num_keypoints, kernel_size=1)
        nn.init.normal_(self.deconv.weight, std=HEAD_STD)
        nn.init.normal_(self.heatmaps.weight, std=HEAD_STD)

    def forward(self, features: Tensor) -> Tensor:
        return self.heatmaps(self.relu(self.norm(self.deconv(features))))


class BTranspose(nn.Module):
    """The pose network of one configuration.

    Args of `forward`:
        crops: [B, 3, H, W] float, RGB, normalised by `crop.normalise`; (H, W) is `config.input_hw`, or another multiple
            of 8 (then the learned positions are resampled on the fly).
        collector: None for the fast path; an `AttentionCollector` to receive every attention map of this pass.

    Returns:
        [B, K, H/4, W/4] heatmaps: about 1 at a joint, about 0 elsewhere, not bounded.
    """

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.head = Head(config)

    def forward(self, crops: Tensor, collector: AttentionCollector | None = None) -> Tensor:
        return self.head(self.backbone(crops, collector))


def _conv_groups(config: PoseConfig) -> tuple[nn.Sequential, int]:
    groups, channels = [], STEM_CHANNELS
    for index, planes in enumerate(config.conv_planes):
        groups.append(conv_group(channels, planes, config.blocks[index], stride=2 if index == 1 else 1))
        channels = planes * EXPANSION
    return nn.Sequential(*groups), channels


def _mhsa_groups(config: PoseConfig, channels: int) -> tuple[nn.ModuleList, int]:
    groups = nn.ModuleList()
    for planes, blocks in zip(config.mhsa_planes, config.blocks[len(config.conv_planes) :], strict=True):
        group = nn.ModuleList()
        for _ in range(blocks):
            group.append(
                AttentionBottleneck(
                    channels,
                    planes,
                    heads=config.mhsa_heads,
                    tokens_hw=config.tokens_hw,
                    position=config.position,
                )
            )
            channels = planes * EXPANSION
        groups.append(group)
    return groups, channels
