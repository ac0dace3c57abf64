import dataclasses

import pytest
import torch
from torch import nn

from drawings import draw_coco, tiny_config
from model.btranspose import BTranspose
from tiny_runs import tiny_pose_settings, tiny_variant_fixture  # noqa: F401 (a fixture)
from training.muon import Muon, orthogonal
from training.pose_optimizer import pose_optimizer
from training.settings import TrainSettings
from training.trainer import Trainer


def parameter(*shape, seed=0):
    weight = nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))
    weight.grad = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 100))
    return weight


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16), (1, 32), (32, 1)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    matrix = parameter(1, *shape).detach()
    made = orthogonal(matrix).float()
    left, before, right = torch.linalg.svd(matrix[0], full_matrices=False)
    turned = left.T @ made[0] @ right.T  # diagonal where the singular vectors are the same
    well_above_rounding = before > 0.05 * before[0]
    values = turned.diagonal()[well_above_rounding]
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (turned - torch.diag(turned.diagonal())).abs().max() < 0.1


def test_the_length_of_a_gradient_does_not_matter_and_zero_stays_zero():
    matrix = parameter(2, 8, 12).detach()
    assert torch.allclose(orthogonal(matrix * 2.0**-20), orthogonal(matrix), atol=1e-2)
    matrix[1] = 0
    made = orthogonal(matrix)
    assert made[0].abs().max() > 0.1
    assert torch.equal(made[1], torch.zeros_like(made[1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_of_the_precision_that_the_device_is_fast_in(dtype, monkeypatch):
    monkeypatch.setattr("training.muon.pick_dtype", lambda precision, device: dtype)
    matrix = parameter(2, 8, 12).detach()
    made = orthogonal(matrix)
    assert made.dtype == dtype
    monkeypatch.undo()
    assert torch.allclose(made.float(), orthogonal(matrix).float(), atol=3e-2)


@pytest.mark.parametrize("shape", [(64, 64), (32, 128), (128, 32), (24, 16, 3, 3)])
def test_an_update_is_of_the_size_of_adams(shape):
    weight = parameter(*shape)
    before = weight.detach().clone()
    Muon([(weight, 1)], [], lr=0.01).step()
    rms = (weight.detach() - before).square().mean().sqrt().item() / 0.01
    assert 0.13 < rms < 0.27


def test_it_goes_against_the_gradient():
    target = parameter(12, 20).detach()
    weight = nn.Parameter(torch.zeros(12, 20))
    optimizer = Muon([(weight, 1)], [], lr=0.02)
    far = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = (weight - target).square().sum()
        loss.backward()
        optimizer.step()
        far.append(loss.item())
    assert far[-1] < far[0] / 50


def test_matrices_that_lie_in_one_parameter_are_moved_each_for_itself():
    stacked = parameter(3 * 8, 16)
    apart = []
    for part, gradient in zip(stacked.detach().chunk(3), stacked.grad.chunk(3), strict=True):
        one = nn.Parameter(part.clone())
        one.grad = gradient.clone() * 7  # of another length than its neighbours
        apart.append(one)
    Muon([(stacked, 3)], [], lr=0.1).step()
    Muon([(one, 1) for one in apart], [], lr=0.1).step()
    assert torch.allclose(stacked, torch.cat(apart), atol=2e-3)


def test_a_kernel_is_the_matrix_of_outputs_by_what_they_see():
    kernel = parameter(6, 4, 3, 3)
    flat = nn.Parameter(kernel.detach().reshape(6, 36).clone())
    flat.grad = kernel.grad.reshape(6, 36).clone()
    kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    Muon([(kernel, 1)], [], lr=0.1).step()
    Muon([(flat, 1)], [], lr=0.1).step()
    assert torch.allclose(kernel.reshape(6, 36), flat, atol=1e-6)


def test_momentum_remembers_earlier_gradients():
    weight, once = parameter(8, 8), parameter(8, 8)
    optimizer = Muon([(weight, 1)], [], lr=0.1, momentum=0.9)
    for seed in (1, 2):
        weight.grad = parameter(8, 8, seed=seed).grad
        before = weight.detach().clone()
        optimizer.step()
    first, second = (parameter(8, 8, seed=seed).grad for seed in (1, 2))
    once.grad = None
    moving = 0.9 * 0.1 * first + 0.1 * second  # after two steps from zero
    ahead = 0.1 * second + 0.9 * moving
    expected = -0.1 * 0.2 * 8**0.5 * orthogonal(ahead[None])[0].float()
    assert torch.allclose(weight.detach() - before, expected, atol=2e-3)


def test_the_others_are_moved_as_torchs_adam_moves_them():
    ours, theirs = parameter(5, 7), parameter(5, 7)
    muon, adam = Muon([], [ours], lr=0.01), torch.optim.Adam([theirs], lr=0.01)
    for seed in range(5):
        ours.grad = parameter(5, 7, seed=seed).grad
        theirs.grad = ours.grad.clone()
        muon.step()
        adam.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_weight_decay_takes_its_part_of_matrices_and_nothing_of_others(seed):
    plain, decayed = parameter(6, 9, seed=seed), parameter(6, 9, seed=seed)
    bias, same = parameter(5), parameter(5)
    before = plain.detach().clone()
    Muon([(plain, 1)], [bias], lr=0.1).step()
    Muon([(decayed, 1)], [same], lr=0.1, weight_decay=0.3).step()
    assert torch.allclose(plain - decayed, 0.1 * 0.3 * before, atol=1e-6)
    assert torch.equal(bias, same)


def test_matrices_of_one_shape_are_moved_as_each_alone():
    together = [parameter(8, 12, seed=seed) for seed in range(3)] + [parameter(8, 4, 3, 1, seed=3)]
    alone = [parameter(*weight.shape, seed=seed) for seed, weight in enumerate(together)]
    Muon([(weight, 1) for weight in together], [], lr=0.1).step()
    for weight in alone:
        Muon([(weight, 1)], [], lr=0.1).step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=2e-3)


def test_parameters_without_gradients_stay():
    weight, bias = parameter(4, 4), parameter(4)
    weight.grad = bias.grad = None
    before = weight.detach().clone(), bias.detach().clone()
    Muon([(weight, 1)], [bias], lr=0.1).step()
    assert torch.equal(weight, before[0])
    assert torch.equal(bias, before[1])


@pytest.mark.parametrize(("shape", "count"), [((8,), 1), ((8, 4), 3), ((8, 4), 0)])
def test_what_is_no_stack_of_matrices_is_refused(shape, count):
    with pytest.raises(ValueError, match=rf"{count} matrices in .*allowed: a divisor of its first axis"):
        Muon([(parameter(*shape), count)], [], lr=0.1)


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="closure is given"):
        Muon([(parameter(2, 2), 1)], [], lr=0.1).step(lambda: 0.0)


@pytest.mark.parametrize("position", ["relative", "absolute"])
def test_every_weight_of_the_network_has_one_optimiser(position):
    net = BTranspose(tiny_config(position=position))
    optimizer = pose_optimizer(net, "muon", 1e-3)
    grouped = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert len(grouped) == len({id(weight) for weight in grouped}) == len(list(net.parameters()))
    matrices = {id(weight) for weight in optimizer.param_groups[0]["params"]}
    adams = {name for name, weight in net.named_parameters() if id(weight) not in matrices and weight.dim() > 1}
    assert "head.heatmaps.weight" in adams
    assert "backbone.position_embedding" in adams
    assert all(name == "head.heatmaps.weight" or "position" in name or "table" in name for name in adams)
    counts = {
        name: count
        for name, weight in net.named_parameters()
        for one, count in zip(optimizer.param_groups[0]["params"], optimizer.param_groups[0]["counts"], strict=True)
        if one is weight
    }
    assert {name for name, count in counts.items() if count == 3} == {name for name in counts if "qkv" in name}


def test_another_optimiser_is_refused():
    with pytest.raises(ValueError, match="optimizer is 'sgd'; allowed: adam, muon"):
        pose_optimizer(BTranspose(tiny_config()), "sgd", 1e-3)


@pytest.fixture
def settings(tmp_path):
    drawn = draw_coco(tmp_path / "coco", persons=12)
    return dataclasses.replace(tiny_pose_settings(drawn, tmp_path / "run"), optimizer="muon")


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"weight_decay": 0.1, "optimizer": "adam"}, "allowed: 0, except with optimizer muon"),
        ({"weight_decay": 1.0}, r"weight_decay is 1.0; allowed: in \[0, 1\)"),
    ],
)
def test_a_weight_decay_that_cannot_be_is_refused(settings, changes, allowed):
    with pytest.raises(ValueError, match=allowed):
        dataclasses.replace(settings, **changes)


class CutOff(Trainer):
    """Is cut off before step 4."""

    def train_step(self, example):
        if self.learner.step == 4:
            raise KeyboardInterrupt
        return super().train_step(example)


@pytest.mark.usefixtures("tiny_variant")
def test_a_run_that_was_cut_off_takes_the_same_steps(settings, tmp_path):
    whole = Trainer(dataclasses.replace(settings, run_dir=tmp_path / "whole"))
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        CutOff(settings).run()
    resumed = Trainer(settings)
    resumed.run()
    for name, weight in whole.learner.net.state_dict().items():
        assert torch.equal(weight, resumed.learner.net.state_dict()[name]), name


@pytest.mark.usefixtures("tiny_variant")
def test_a_batch_is_learned_by_heart(settings):
    trainer = Trainer(dataclasses.replace(settings, epochs=1000, learning_rate=3e-3, warmup_epochs=0.0, dropout=0.0))
    batch = next(iter(trainer._loader(0, 0)))
    losses = [trainer.train_step(batch) for _ in range(80)]
    assert losses[-1] < losses[0] / 10


@pytest.mark.usefixtures("tiny_variant")
@pytest.mark.parametrize("says", [True, False])
def test_a_run_does_not_change_its_optimiser(settings, monkeypatch, says):
    adam = dataclasses.replace(settings, optimizer="adam", epochs=1)
    with monkeypatch.context() as former:
        if not says:  # as runs were before there was a choice
            to_json = TrainSettings.to_json
            former.setattr(
                TrainSettings, "to_json", lambda self: {k: v for k, v in to_json(self).items() if k != "optimizer"}
            )
        Trainer(adam).run()
    with pytest.raises(ValueError, match="optimizer: adam -> muon"):
        Trainer(dataclasses.replace(settings, epochs=1)).run()
