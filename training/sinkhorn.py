"""Sinkhorn divergence between heatmaps: how far mass must travel to turn one map into another.

Entropic optimal transport (Cuturi 2013; the paper's section 4.2, with its epsilon and number of iterations) between the
pixels of two maps, debiased (Feydy et al. 2019, equation 3):

    OT(a, b) = min <cost, plan> + epsilon KL(plan | a x b), over the plans that carry a to b
    S(a, b)  = OT(a, b) - (OT(a, a) + OT(b, b)) / 2

S is zero for equal maps, and d^2 for a map and its copy shifted by d. The cost is squared distance in units of the
longer side of the map, so that a pixel is as far along both axes: on a map of 64x48, rows span 1 and columns 0.75. As a
sum over the axes it makes the kernel exp(-cost / epsilon) a product of a small matrix for rows and one for columns;
nothing of the size pixels x pixels ever exists. Knows nothing of joints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 0.05  # of the paper; a plan is blurred by sqrt(epsilon / 2), about ten of 64 pixels
ITERATIONS = 3  # of the paper

# Next to a mass of 1 the smallest kernel value, exp(-60), still leaves exp(-27) above the end of float32 at exp(-87).
MAX_COST_IN_EPSILONS = 60.0

MASS_AT_ZERO = 1e-3  # of a pixel of height zero, where the peak of a target has height 1


class Kernel(NamedTuple):
    """exp(-cost / epsilon) as its factors: rows [H, H] and columns [W, W]."""

    rows: Tensor
    columns: Tensor
    epsilon: float


def unit_mass(heatmaps: Tensor) -> Tensor:
    """Heatmaps as distributions.

    A pixel of height h weighs (h + sqrt(h^2 + 4 m^2)) / 2 with m = `MASS_AT_ZERO`; then each map is divided by its sum.
    Above zero that is the height itself, so the height of the whole map cancels and is left to the other part of the
    loss (a softmax would ask for one certain height). Below zero little is left, but with a gradient, which fades like
    m^2 / h^2: a cut at zero would have none, and a map without a positive pixel could not learn.

    Args:
        heatmaps: [..., H, W] float of any sign.

    Returns:
        [..., H, W]: the logarithm of the masses, which stays finite where a mass would be rounded to zero.
    """
    size = heatmaps.abs()
    root = torch.hypot(heatmaps, heatmaps.new_tensor(2 * MASS_AT_ZERO))
    # The sum above, without taking almost equal numbers from each other below zero.
    masses = (heatmaps + size) / 2 + 2 * MASS_AT_ZERO**2 / (size + root)
    return masses.log() - masses.sum(dim=(-2, -1), keepdim=True).log()


def sinkhorn_divergence(
    log_a: Tensor, log_b: Tensor, *, epsilon: float = EPSILON, iterations: int = ITERATIONS
) -> Tensor:
    """S(a, b), in float32 whatever autocast says, or in float64 for maps of that type.

    Exactly symmetric, and zero for equal maps, after any number of iterations.

    Args:
        log_a, log_b: [..., H, W], the logarithms of masses that sum to 1 over each map.

    Returns:
        [...] in squared longer sides; below zero by no more than what the iterations leave. Raises ValueError for an
        epsilon that is too small for float32.
    """
    dtype = torch.promote_types(torch.float32, torch.promote_types(log_a.dtype, log_b.dtype))
    with torch.autocast(log_a.device.type, enabled=False):
        log_a, log_b = log_a.to(dtype), log_b.to(dtype)
        kernel = gibbs_kernel(log_a, epsilon)
        own_costs = own_transport_cost(log_a, kernel, iterations) + own_transport_cost(log_b, kernel, iterations)
        return transport_cost(log_a, log_b, kernel, iterations) - own_costs / 2


def transport_cost(log_a: Tensor, log_b: Tensor, kernel: Kernel, iterations: int) -> Tensor:
    """OT(a, b) [...], from below: the value of its dual at the potentials that the iterations reach.

    An iteration updates one potential, then the other. Beginning with either gives two sequences; both run side by side
    here, two updates an iteration, and the mean of both is the result: the same for (b, a).

    The gradient goes through the iterations: it is that of the very number that is returned, and its error is the
    square of that of the potentials. By the envelope theorem, potentials held fixed, it would be the error itself
    (Ablin et al. 2020), and three iterations leave some: for a peak beside a target S is within a hundredth of its
    limit and the gradient within a tenth; for a flat map S is within a fifth, the gradient within a cosine of 0.9.

    Args:
        log_a, log_b: [..., H, W].
    """
    f = g = torch.zeros_like(log_a)
    for _ in range(2 * iterations):
        f_before, g_before = f, g
        f, g = soft_minimum(g_before, log_b, kernel), soft_minimum(f_before, log_a, kernel)
    return (_mean(f + f_before, log_a) + _mean(g + g_before, log_b)) / 2


def own_transport_cost(log_a: Tensor, kernel: Kernel, iterations: int) -> Tensor:
    """OT(a, a) [...]: `transport_cost` with half of the work, both potentials being one."""
    f = torch.zeros_like(log_a)
    for _ in range(2 * iterations):
        f_before = f
        f = soft_minimum(f_before, log_a, kernel)
    return _mean(f + f_before, log_a)


def soft_minimum(potential: Tensor, log_mass: Tensor, kernel: Kernel) -> Tensor:
    """For each pixel x, -epsilon log sum_y mass(y) exp((potential(y) - cost(x, y)) / epsilon).

    The sum over y is one over columns and then one over rows. All its terms are positive and the largest is scaled to
    1, so that it keeps the precision of its type.

    Args:
        potential, log_mass: [..., H, W].

    Returns:
        [..., H, W].
    """
    exponent = log_mass + potential / kernel.epsilon
    largest = exponent.detach().amax(dim=(-2, -1), keepdim=True)  # only a scale: it has no part in the gradient
    sums = kernel.rows @ ((exponent - largest).exp() @ kernel.columns)
    return -kernel.epsilon * (sums.log() + largest)


def gibbs_kernel(maps: Tensor, epsilon: float) -> Kernel:
    """The kernel for maps [..., H, W], of their type and device. Raises ValueError if epsilon is too small for it."""
    height, width = maps.shape[-2:]
    longest = max(height, width)
    smallest = (height**2 + width**2) / longest**2 / MAX_COST_IN_EPSILONS
    if not epsilon >= smallest:
        raise ValueError(f"epsilon is {epsilon}; allowed for maps of {height}x{width}: at least {smallest:.4f}")

    def along(size: int) -> Tensor:
        places = torch.arange(size, dtype=maps.dtype, device=maps.device) / longest
        return torch.exp(-(places[:, None] - places).square() / epsilon)

    return Kernel(along(height), along(width), epsilon)


def _mean(values: Tensor, log_mass: Tensor) -> Tensor:
    """[..., H, W] -> [...], weighed by mass."""
    return (values * log_mass.exp()).sum(dim=(-2, -1))
