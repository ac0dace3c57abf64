"""Student and teacher of self-distillation (paper section 3.2): a backbone, pooling, and DINO's projection head.

Unlike the authors' code, which flattens the map into the head's first layer (201 M weights, and one size of view), the
features are averaged over the map, so that views of any size share one head. Shapes: B pictures, V views of each,
C features (`model_dim`), P prototypes (`out_dim`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.btranspose import Backbone
from model.variants import PoseConfig

HEAD_STD = 0.02


class Prototypes(nn.Module):
    """A linear layer whose weight vectors have a learned length, or 1: [N, D] -> [N, P]. No bias.

    A fixed length of 1 (`norm_last_layer` of DINO) keeps the logits of unit inputs within -1..1, which is steadier.
    """

    def __init__(self, dim: int, prototypes: int, *, fixed_length: bool) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(prototypes, dim))
        self.length = nn.Parameter(torch.ones(prototypes), requires_grad=not fixed_length)
        nn.init.uniform_(self.direction, -(dim**-0.5), dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, F.normalize(self.direction, dim=-1)) * self.length


class ProjectionHead(nn.Module):
    """MLP with GELU to a bottleneck, unit length, then prototypes: [N, C] -> [N, P] float32.

    `layers` counts the MLP's linear layers, the bottleneck included. What follows the bottleneck is computed in single
    precision: divided by a temperature of 0.04, bfloat16's steps near 1 would be 0.1.
    """

    def __init__(
        self, dim: int, *, layers: int, hidden_dim: int, bottleneck_dim: int, out_dim: int, norm_last_layer: bool
    ) -> None:
        super().__init__()
        sizes = [dim, *[hidden_dim] * (layers - 1), bottleneck_dim]
        self.mlp = nn.Sequential()
        for before, after in itertools.pairwise(sizes):
            if len(self.mlp):
                self.mlp.append(nn.GELU())
            linear = nn.Linear(before, after)
            nn.init.trunc_normal_(linear.weight, std=HEAD_STD)
            nn.init.zeros_(linear.bias)
            self.mlp.append(linear)
        self.prototypes = Prototypes(bottleneck_dim, out_dim, fixed_length=norm_last_layer)

    def forward(self, features: Tensor) -> Tensor:
        bottleneck = self.mlp(features)
        with torch.autocast(features.device.type, enabled=False):
            return self.prototypes(F.normalize(bottleneck.float(), dim=-1))


class DinoNetwork(nn.Module):
    """Backbone, average over the map, head.

    Args of `forward`:
        views: one batch [V*B, 3, H, W] for each size of view. The backbone runs once for each, so batch norm never
            mixes sizes.

    Returns:
        logits [all views, P] float32 and pooled features [all views, C] float32, in the order of the batches.
    """

    def __init__(self, config: PoseConfig, head: ProjectionHead) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.head = head

    def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        features = torch.cat([pooled(self.backbone, batch) for batch in views])
        return self.head(features), features


def pooled(backbone: Backbone, batch: Tensor) -> Tensor:
    """The backbone's features averaged over the map: [B, 3, H, W] -> [B, C] float32."""
    return backbone(batch).float().mean(dim=(2, 3))


class SelfDistillation(nn.Module):
    """Everything that pre-training has learned so far: student, teacher, and the centre [P] of the teacher's logits.

    The teacher begins as a copy of the student and follows it. As in DINO it stays in training mode: its batch norms
    normalise by its own batch of global views, and their running statistics, which count only in evaluation, follow its
    own forward passes. It has no dropout, as DINO's teacher has no drop path.
    """

    center: Tensor

    def __init__(
        self,
        config: PoseConfig,
        *,
        head_layers: int,
        hidden_dim: int,
        bottleneck_dim: int,
        out_dim: int,
        norm_last_layer: bool,
    ) -> None:
        super().__init__()

        def head() -> ProjectionHead:
            return ProjectionHead(
                config.model_dim,
                layers=head_layers,
                hidden_dim=hidden_dim,
                bottleneck_dim=bottleneck_dim,
                out_dim=out_dim,
                norm_last_layer=norm_last_layer,
            )

        self.student = DinoNetwork(config, head())
        self.teacher = DinoNetwork(replace(config, dropout=0.0), head())
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.register_buffer("center", torch.zeros(out_dim))

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Each parameter becomes momentum * teacher + (1 - momentum) * student; statistics of batch norm stay."""
        for of_teacher, of_student in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            of_teacher.lerp_(of_student, 1.0 - momentum)
