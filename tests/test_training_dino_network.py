"""Student, teacher and optimiser against plain computations."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from drawings import tiny_config
from training.dino_network import ProjectionHead, Prototypes, SelfDistillation
from training.dino_optimizer import adamw, clip_each, set_rates

HEAD = {"head_layers": 3, "hidden_dim": 24, "bottleneck_dim": 8, "out_dim": 16, "norm_last_layer": True}


def nets(**changes):
    torch.manual_seed(0)
    return SelfDistillation(tiny_config(dropout=0.1), **(HEAD | changes))


def views(*sizes, batch=4):
    torch.manual_seed(1)
    return [torch.randn(batch, 3, *size) for size in sizes]


def test_prototypes_of_fixed_length_give_cosines():
    layer = Prototypes(6, 9, fixed_length=True)
    x = F.normalize(torch.randn(5, 6), dim=-1)
    expected = [
        [float(np.dot(row, weight) / np.linalg.norm(weight)) for weight in layer.direction.detach().numpy()]
        for row in x.numpy()
    ]
    torch.testing.assert_close(layer(x), torch.tensor(expected))
    assert not layer.length.requires_grad
    assert layer(x).abs().max() <= 1 + 1e-6


def test_prototypes_may_learn_their_length():
    layer = Prototypes(6, 9, fixed_length=False)
    x = torch.randn(5, 6)
    before = layer(x)
    with torch.no_grad():
        layer.length.mul_(3.0)
    torch.testing.assert_close(layer(x), 3 * before)
    assert layer.length.requires_grad


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_head_is_an_mlp_with_gelu_and_a_bottleneck_of_unit_length(layers):
    torch.manual_seed(0)
    head = ProjectionHead(12, layers=layers, hidden_dim=20, bottleneck_dim=8, out_dim=16, norm_last_layer=True)
    x = 5 * torch.randn(3, 12)
    linears = [module for module in head.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == layers
    values = x
    for number, linear in enumerate(linears):
        values = values @ linear.weight.T + linear.bias
        if number < layers - 1:
            values = values * 0.5 * (1 + torch.erf(values / math.sqrt(2)))
    values = values / values.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(head(x), head.prototypes(values))


def test_logits_stay_in_single_precision_under_autocast():
    net = nets().student
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = net(views((64, 48)))
        bottleneck = net.head.mlp(features)
    assert logits.dtype == features.dtype == torch.float32
    assert bottleneck.dtype == torch.bfloat16
    expected = net.head.prototypes(F.normalize(bottleneck.float(), dim=-1))
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)


def test_views_of_several_sizes_share_the_network_but_not_their_norms():
    """The batch of each size is normalised alone: what one size answers does not depend on the others."""
    student = nets().student
    student.backbone.encoder.eval()  # no dropout
    large, small = views((64, 48), (32, 24))
    logits, features = student([large, small])
    assert logits.shape == (8, 16)
    assert features.shape == (8, 32)
    torch.testing.assert_close(logits[:4], student([large])[0])
    torch.testing.assert_close(logits[4:], student([small])[0])


def test_features_are_the_average_over_the_map():
    student = nets().student.eval()
    (batch,) = views((64, 48))
    features = student.backbone(batch)
    expected = torch.stack([features[b].flatten(1).sum(dim=1) / (8 * 6) for b in range(4)])
    torch.testing.assert_close(student([batch])[1], expected)


def test_the_teacher_starts_as_the_student_without_dropout_and_without_gradients():
    both = nets()
    for name, weight in both.student.state_dict().items():
        assert torch.equal(weight, both.teacher.state_dict()[name]), name
    assert {module.p for module in both.student.modules() if isinstance(module, nn.Dropout)} == {0.1}
    assert {module.p for module in both.teacher.modules() if isinstance(module, nn.Dropout)} == {0.0}
    assert not any(parameter.requires_grad for parameter in both.teacher.parameters())


def test_the_teacher_follows_the_students_parameters_and_its_own_statistics():
    both = nets()
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in both.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    both.student.backbone.stem.norm.running_mean.fill_(7.0)
    before = {name: weight.clone() for name, weight in both.teacher.named_parameters()}
    both.update_teacher(0.9)
    for name, weight in both.teacher.named_parameters():
        expected = 0.9 * before[name].double() + 0.1 * both.student.get_parameter(name).double()
        torch.testing.assert_close(weight.double(), expected, atol=1e-6, rtol=1e-5)
    assert (both.teacher.backbone.stem.norm.running_mean == 0).all()


def test_a_momentum_of_one_keeps_the_teacher():
    both = nets()
    with torch.no_grad():
        both.student.backbone.reduce.weight.add_(1.0)
    before = both.teacher.backbone.reduce.weight.clone()
    both.update_teacher(1.0)
    assert torch.equal(both.teacher.backbone.reduce.weight, before)


def test_gradients_are_clipped_one_by_one():
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad = torch.tensor([3.0, 0.0, 4.0])
    parameters[1].grad = torch.full((2, 2), 0.1)
    norms = clip_each(parameters, 2.0)
    assert norms.tolist() == pytest.approx([5.0, 0.2])
    assert parameters[0].grad.tolist() == pytest.approx([1.2, 0.0, 1.6], abs=1e-5)
    assert parameters[1].grad.flatten().tolist() == pytest.approx([0.1] * 4)


def test_a_limit_of_zero_clips_nothing():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([30.0, 40.0])
    assert clip_each([parameter], 0.0).tolist() == [50.0]
    assert parameter.grad.tolist() == [30.0, 40.0]


def test_a_gradient_that_is_not_finite_shows_in_the_norms():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, float("nan")])
    assert clip_each([parameter], 1.0).isnan().all()


def test_biases_norms_and_vectors_do_not_decay():
    student = nets(norm_last_layer=False).student
    optimizer = adamw(student)
    set_rates(optimizer, 1e-3, 0.3)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(student.parameters()))
    for name, parameter in student.named_parameters():
        expected = 0.0 if name.endswith(("bias", "length")) or ".norm" in name else 0.3
        assert decays[id(parameter)] == expected, name
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3}


def test_a_step_is_that_of_adamw():
    """First step of AdamW: shrink by rate * decay, then move by the rate against the sign of the gradient."""
    layer = nn.Linear(2, 1)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimizer = adamw(layer)
    set_rates(optimizer, 0.1, 0.5)
    layer(torch.tensor([[1.0, -2.0]])).sum().backward()
    optimizer.step()
    signs = torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(layer.weight.data, before["weight"] * (1 - 0.1 * 0.5) - 0.1 * signs)
    torch.testing.assert_close(layer.bias.data, before["bias"] - 0.1)
