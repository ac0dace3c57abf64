"""What a view costs in training, and a picture in pre-training, in counted operations.

Counted, not timed: the same on every machine, however busy. Two operations for each multiply-add of convolutions and
matrix products, forward and backward; what is done element by element is left out, in both alike. A picture of DINO is
two global views and some local ones through the student, forward and backward, and the global ones through the teacher,
forward. Nothing is computed: the networks are built without memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.btranspose import BTranspose
from model.variants import PoseConfig, variant
from training.dino_network import DinoNetwork, SelfDistillation, pooled
from training.dino_settings import PretrainSettings
from training.views import GLOBAL_VIEWS


def view_flops(config: PoseConfig) -> int:
    """Operations for one view of a person in `training.train`."""
    with torch.device("meta"):
        net, view = BTranspose(config).train(), torch.empty(1, 3, *config.input_hw)
    with FlopCounterMode(display=False) as counter:
        net(view).sum().backward()
    return int(counter.get_total_flops())


def picture_flops(settings: PretrainSettings) -> int:
    """Operations for one picture in `training.pretrain`."""
    config = variant(settings.variant, position=settings.position, input_hw=settings.global_hw)
    with torch.device("meta"):
        nets = SelfDistillation(
            config,
            head_layers=settings.head_layers,
            hidden_dim=settings.hidden_dim,
            bottleneck_dim=settings.bottleneck_dim,
            out_dim=settings.out_dim,
            norm_last_layer=settings.norm_last_layer,
        ).train()
        views = [torch.empty(GLOBAL_VIEWS, 3, *settings.global_hw)]
        if settings.local_views:
            views.append(torch.empty(settings.local_views, 3, *settings.local_hw))
    with FlopCounterMode(display=False) as counter:
        with torch.no_grad():
            _logits(nets.teacher, views[:1])
        _logits(nets.student, views).sum().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def _logits(net: DinoNetwork, views: Sequence[Tensor]) -> Tensor:
    """As `net(views)`, but for its casts, which know no device without memory."""
    features = torch.cat([pooled(net.backbone, batch) for batch in views])
    logits: Tensor = net.head.prototypes(net.head.mlp(features))
    return logits
