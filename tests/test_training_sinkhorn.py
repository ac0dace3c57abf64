"""The Sinkhorn divergence: against POT, against its own theory, and as a loss that moves a peak across an empty map."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model.heatmap import encode_heatmaps, heatmap_to_crop
from training.loss import heatmap_mse, heatmap_sinkhorn
from training.sinkhorn import (
    EPSILON,
    ITERATIONS,
    gibbs_kernel,
    own_transport_cost,
    sinkhorn_divergence,
    transport_cost,
    unit_mass,
)

HW = (64, 48)
CONVERGED = 200


def random_maps(seed, shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gaussians(points_heatmap, hw=HW, sigma=2.0, dtype=torch.float64):
    """[K, 2] x and y in heatmap pixels -> [1, K, H, W]."""
    return encode_heatmaps(heatmap_to_crop(torch.as_tensor(points_heatmap, dtype=dtype))[None], hw, sigma)


def divergence(a, b, **options):
    return sinkhorn_divergence(unit_mass(a), unit_mass(b), **options)


def dense_cost(hw):
    """[pixels, pixels]: squared distance in units of the longer side."""
    places = np.stack(np.indices(hw), axis=-1).reshape(-1, 2) / max(hw)
    return np.square(places[:, None] - places).sum(axis=-1)


def pot_cost(a, b, epsilon):
    """<cost, plan> + epsilon KL(plan | a x b) of two maps of masses, with the plan of POT."""
    cost, a, b = dense_cost(a.shape), a.numpy().ravel(), b.numpy().ravel()
    plan = ot.sinkhorn(a, b, cost, epsilon, method="sinkhorn_log", numItermax=20_000, stopThr=1e-14)
    np.testing.assert_allclose(plan.sum(axis=1), a, atol=1e-10)
    return float((plan * cost).sum() + epsilon * (plan * np.log(plan / np.outer(a, b))).sum())


@pytest.mark.parametrize("epsilon", [EPSILON, 0.2])
@pytest.mark.parametrize("hw", [(8, 6), (5, 9), (7, 7)])
def test_costs_and_divergence_are_those_of_pot(hw, epsilon):
    log_a, log_b = unit_mass(random_maps(0, hw)), unit_mass(random_maps(1, hw))
    a, b = log_a.exp(), log_b.exp()
    crossing, own_a, own_b = pot_cost(a, b, epsilon), pot_cost(a, a, epsilon), pot_cost(b, b, epsilon)
    kernel = gibbs_kernel(log_a, epsilon)
    assert transport_cost(log_a, log_b, kernel, CONVERGED).item() == pytest.approx(crossing, rel=1e-7)
    assert own_transport_cost(log_a, kernel, CONVERGED).item() == pytest.approx(own_a, rel=1e-7)
    expected = crossing - (own_a + own_b) / 2
    got = sinkhorn_divergence(log_a, log_b, epsilon=epsilon, iterations=CONVERGED)
    assert expected > 1e-3
    assert got.item() == pytest.approx(expected, rel=1e-6)


def test_the_costs_come_from_below():
    log_a, log_b = unit_mass(random_maps(0, (12, 9))), unit_mass(random_maps(1, (12, 9)))
    kernel = gibbs_kernel(log_a, EPSILON)
    costs = [transport_cost(log_a, log_b, kernel, iterations).item() for iterations in (1, 2, 3, 10, 30)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


@pytest.mark.parametrize("iterations", [1, ITERATIONS])
def test_the_gradient_is_that_of_the_number_that_is_returned(iterations):
    a, b = random_maps(0, (2, 5, 4)).requires_grad_(), random_maps(1, (2, 5, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: divergence(a, b, iterations=iterations), (a, b), atol=1e-8)


def test_the_gradient_with_respect_to_the_masses_is_a_potential():
    """At the optimum the envelope theorem holds: the gradient of OT(a, b) in a is f, up to a constant."""
    log_a, log_b = unit_mass(random_maps(0, (6, 5))), unit_mass(random_maps(1, (6, 5)))
    a = log_a.exp().requires_grad_()
    (gradient,) = torch.autograd.grad(transport_cost(a.log(), log_b, gibbs_kernel(log_a, EPSILON), CONVERGED), a)
    masses_a, masses_b = (log.exp().numpy().ravel() for log in (log_a, log_b))
    _, log = ot.sinkhorn(
        masses_a,
        masses_b,
        dense_cost((6, 5)),
        EPSILON,
        method="sinkhorn_log",
        numItermax=20_000,
        stopThr=1e-14,
        log=True,
    )
    expected = EPSILON * (log["log_u"] - np.log(masses_a))
    got = gradient.numpy().ravel()
    np.testing.assert_allclose(got - got.mean(), expected - expected.mean(), atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_maps_are_at_zero_and_have_no_gradient(dtype):
    a = random_maps(0, (4, 16, 12), dtype).requires_grad_()
    values = divergence(a, a.detach())
    assert torch.equal(values, torch.zeros(4, dtype=dtype))
    (gradient,) = torch.autograd.grad(values.sum(), a)
    assert gradient.abs().max() < 1e-7
    (elsewhere,) = torch.autograd.grad(divergence(a, a.detach().flip(-1)).sum(), a)
    assert elsewhere.abs().max() > 1e-5


@pytest.mark.parametrize("offset", [(4, 0), (0, 4), (-9, 0), (0, 12), (6, -8), (-15, 24)])
def test_a_shifted_peak_is_at_the_squared_distance(offset):
    """In units of the longer side, whichever way: four pixels across cost as much as four along."""
    here, there = torch.tensor([[24.0, 31.0]]), torch.tensor([[24.0 + offset[0], 31.0 + offset[1]]])
    # Without the small mass of the empty pixels, which stays where it is.
    log_a, log_b = (gaussians(points).double().clamp(min=1e-30).log() for points in (here, there))
    log_a, log_b = (log - log.logsumexp(dim=(-2, -1), keepdim=True) for log in (log_a, log_b))
    squared = (offset[0] ** 2 + offset[1] ** 2) / 64**2
    assert sinkhorn_divergence(log_a, log_b).item() == pytest.approx(squared, rel=0.01)


def test_it_grows_with_the_distance_of_heatmaps():
    points = [[8.0 + step, 31.0] for step in range(0, 33, 4)]
    values = divergence(gaussians(points), gaussians([[8.0, 31.0]] * len(points)))[0].tolist()
    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[-1] == pytest.approx(0.25, rel=0.25)  # 32 of 64 pixels


def test_the_order_of_the_maps_does_not_matter():
    a, b = random_maps(0, (5, 16, 12)), random_maps(1, (5, 16, 12))
    assert torch.equal(divergence(a, b), divergence(b, a))
    mirrored = divergence(a.flip(-1), b.flip(-1))
    torch.testing.assert_close(mirrored, divergence(a, b))
    torch.testing.assert_close(divergence(a.mT, b.mT), divergence(a, b))


def kinds_of_maps():
    """[M, H, W]: sharp, flat, spread, two-peaked, noisy."""
    peaks = gaussians([[20.0, 30.0], [21.0, 31.0], [0.0, 0.0], [47.0, 63.0]])[0]
    wide = gaussians([[24.0, 32.0]], sigma=12.0)[0]
    noise = random_maps(3, (2, *HW)) * torch.tensor([0.01, 1.0], dtype=torch.float64)[:, None, None]
    return torch.cat((peaks, wide, torch.zeros(1, *HW, dtype=torch.float64), peaks[2:3] + peaks[3:4], noise))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_never_negative(dtype):
    maps = kinds_of_maps().to(dtype)
    values = divergence(maps[:, None], maps[None])
    assert values.min() >= -1e-6
    assert (values > 1e-5).sum() >= len(maps) * (len(maps) - 1)


def test_three_iterations_are_enough_for_a_peak():
    """The target against other peaks: within a hundredth of the limit, the gradient within a tenth."""
    target = gaussians([[20.0, 30.0]])
    peaks = gaussians([[24.0, 31.0], [14.0, 40.0], [40.0, 10.0]], sigma=2.5).requires_grad_()
    three, limit = divergence(peaks, target), divergence(peaks, target, iterations=CONVERGED)
    torch.testing.assert_close(three, limit, rtol=0.01, atol=0)
    (of_three,) = torch.autograd.grad(three.sum(), peaks)
    (of_limit,) = torch.autograd.grad(limit.sum(), peaks)
    assert (of_three - of_limit).norm() < 0.1 * of_limit.norm()


def test_three_iterations_point_the_right_way_on_a_flat_map():
    """The start of training, targets all over the map: within a fifth of the limit, in its direction."""
    targets = gaussians([[24.0, 31.0], [10.0, 60.0], [2.0, 3.0]])
    flat = torch.zeros(1, 3, *HW, dtype=torch.float64).requires_grad_()
    three, limit = divergence(flat, targets), divergence(flat, targets, iterations=CONVERGED)
    torch.testing.assert_close(three, limit, rtol=0.2, atol=0)
    (of_three,) = torch.autograd.grad(three.sum(), flat)
    (of_limit,) = torch.autograd.grad(limit.sum(), flat)
    similarity = torch.cosine_similarity(of_three.flatten(2), of_limit.flatten(2), dim=-1)
    assert similarity.min() > 0.9


@pytest.mark.parametrize(
    ("name", "predicted"),
    [
        ("zero", torch.zeros(1, 1, *HW)),
        ("negative", torch.full((1, 1, *HW), -3.0)),
        ("huge", 1e30 * random_maps(0, (1, 1, *HW), torch.float32)),
        ("one huge pixel", torch.zeros(1, 1, *HW).index_put((torch.tensor(0),) * 4, torch.tensor(1e30))),
        ("one hole", torch.zeros(1, 1, *HW).index_put((torch.tensor(0),) * 4, torch.tensor(-1e30))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_prediction_is_too_strange(name, predicted):
    predicted = predicted.clone().requires_grad_()
    value = heatmap_sinkhorn(predicted, gaussians([[20.0, 30.0]], dtype=torch.float32), torch.ones(1, 1))
    value.backward()
    assert 0.01 < value.item() < 2
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize("height", [0.0, -0.01])
def test_a_map_without_a_positive_pixel_is_drawn_to_the_target(height):
    """Downhill the target's own pixel rises, above all the others together."""
    predicted = torch.full((1, 1, *HW), height).requires_grad_()
    heatmap_sinkhorn(predicted, gaussians([[20.0, 30.0]], dtype=torch.float32), torch.ones(1, 1)).backward()
    downhill = -predicted.grad[0, 0]
    assert divmod(int(downhill.argmax()), HW[1]) == (30, 20)
    assert downhill.max() > 1e-6


def test_the_mass_is_that_of_its_formula_and_sums_to_one():
    heights = torch.tensor([[-1e30, -0.5, -0.001], [0.0, 0.001, 1.0]], dtype=torch.float64)
    weights = (heights[:, 1:] + (heights[:, 1:] ** 2 + 4e-6).sqrt()) / 2
    log_masses = unit_mass(heights)
    torch.testing.assert_close(log_masses.exp()[:, 1:], weights / (weights.sum() + 1e-3), rtol=1e-6, atol=0)
    assert log_masses.exp().sum().item() == pytest.approx(1)
    assert torch.isfinite(log_masses).all()


def test_the_height_of_a_map_is_left_to_the_squared_error():
    """A peak of half the height costs less than one that is off by three of 64 pixels."""
    target = gaussians([[20.0, 30.0]])
    assert divergence(target / 2, target).item() < (3 / 64) ** 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_computed_in_single_precision_under_autocast(dtype):
    a, b = random_maps(0, (16, 12), torch.float32).to(dtype), random_maps(1, (16, 12), torch.float32).to(dtype)
    log_a, log_b = unit_mass(a), unit_mass(b)
    expected = sinkhorn_divergence(log_a.float(), log_b.float())
    with torch.autocast("cpu", torch.bfloat16):
        got = sinkhorn_divergence(log_a, log_b)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


def test_single_precision_is_precise():
    maps = kinds_of_maps()
    double = divergence(maps[:, None], maps[None])
    torch.testing.assert_close(
        divergence(maps.float()[:, None], maps.float()[None]).double(), double, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 0.01, float("nan")])
def test_an_epsilon_that_would_underflow_is_refused(epsilon):
    with pytest.raises(ValueError, match=r"epsilon is .*; allowed for maps of 64x48: at least 0\.0260"):
        sinkhorn_divergence(unit_mass(torch.zeros(HW)), unit_mass(torch.zeros(HW)), epsilon=epsilon)


class LargestTensor(TorchDispatchMode):
    """Notes the bytes behind the largest result of any operation (a view that repeats itself has few)."""

    def __init__(self):
        super().__init__()
        self.bytes = 0
        self.operations = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        self.operations.add(str(func))
        return result


def test_a_batch_of_64_persons_needs_nothing_larger_than_its_heatmaps():
    """Forward and backward. A kernel of pixels x pixels would have 9.4 million elements for one map."""
    predicted = random_maps(0, (64, 17, *HW), torch.float32).requires_grad_()
    target = random_maps(1, (64, 17, *HW), torch.float32)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with LargestTensor() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = heatmap_sinkhorn(predicted, target, torch.ones(64, 17))
        loss.backward()
    assert largest.bytes == predicted.numel() * 4
    assert any("exp" in name for name in largest.operations)
    assert sum(kept.values()) < 0.7e9


def test_a_peak_walks_to_a_target_that_the_squared_error_does_not_see():
    start, goal = torch.tensor([[[50.0, 60.0]]]), torch.tensor([[[140.0, 190.0]]])  # crop pixels
    target, counts = encode_heatmaps(goal, HW, 2.0), torch.ones(1, 1)
    points = start.clone().requires_grad_()
    heatmap_mse(encode_heatmaps(points, HW, 2.0), target, counts).backward()
    assert points.grad.abs().max() < 1e-10

    optimizer = torch.optim.Adam([points], lr=4.0)
    values = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = heatmap_sinkhorn(encode_heatmaps(points, HW, 2.0), target, counts)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] / 1000
    assert (points - goal).norm() < 4  # one pixel of the heatmap
