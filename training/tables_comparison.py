"""What a small table allows to say, and no more: differences between arms, with their spread over seeds.

Two arms are compared seed by seed, for the same seed sees the same persons in the same order. The mean difference has a
95 % interval by Student's t over the seeds; a difference is claimed only if the interval leaves out 0, and of a single
seed nothing is claimed. The spread is that of training; how much other persons to measure on would change is not in it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.tables_paper import ROWS, SAME_COMPUTE

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
T95_MORE = 2.131  # of more: that of 15, which claims a little less than could be

WELL_BELOW = 0.9  # of the best constant prediction's loss: what counts as having learned to look


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two arms of which the paper, or common sense, expects a difference: `arm` against `other`, by name."""

    title: str
    arm: str
    other: str

    @property
    def paper_ap(self) -> float | None:
        """The difference of the paper's APs, 0..1; None if it has no such row."""
        return ROWS[self.arm].ap - ROWS[self.other].ap if {self.arm, self.other} <= ROWS.keys() else None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`arm` minus `other` over the seeds that both have. `spread` is the standard deviation; None of one seed."""

    values: tuple[float, ...]
    mean: float
    spread: float | None
    interval: tuple[float, float] | None

    @property
    def claimed(self) -> bool:
        """Whether the spread allows to say that there is a difference."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def comparisons(arms: Sequence[str]) -> list[Comparison]:
    """Those for which both arms are there."""
    return [one for one in ALL_COMPARISONS if one.arm in arms and one.other in arms]


def difference(values: Mapping[int, float], others: Mapping[int, float]) -> Difference | None:
    """By seed; None if there is no seed that both have."""
    seeds = sorted(values.keys() & others.keys())
    if not seeds:
        return None
    found = tuple(values[seed] - others[seed] for seed in seeds)
    mean = statistics.fmean(found)
    if len(found) == 1:
        return Difference(values=found, mean=mean, spread=None, interval=None)
    spread = statistics.stdev(found)
    half = (T95[len(found) - 2] if len(found) - 2 < len(T95) else T95_MORE) * spread / math.sqrt(len(found))
    return Difference(values=found, mean=mean, spread=spread, interval=(mean - half, mean + half))


def in_words(comparison: Comparison, found: Difference | None, figure: str = "mean OKS") -> str:
    """One sentence on a comparison that claims what its spread allows."""
    paper = "" if comparison.paper_ap is None else f" (The paper: AP {100 * comparison.paper_ap:+.1f} points.)"
    if found is None:
        return f"{comparison.title}: not measured yet, for no seed has both.{paper}"
    if found.interval is None:
        return (
            f"{comparison.title}: {figure} {found.mean:+.4f} with one seed; its spread is not known, so nothing can be "
            f"said.{paper}"
        )
    low, high = found.interval
    told = f"{figure} {found.mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f} over {len(found.values)} seeds)"
    if not found.claimed:
        return f"{comparison.title}: {told}: no difference that the spread over seeds would allow to claim.{paper}"
    return f"{comparison.title}: {told}: {'higher' if found.mean > 0 else 'lower'}, beyond the spread.{paper}"


def learning_in_words(label: str, ratios: Mapping[int, float]) -> str:
    """One sentence on whether a network learned to look at the picture.

    `ratios`: by seed, its loss divided by that of the best prediction that is the same for everybody.
    """
    if not ratios:
        return f"{label}: not measured yet."
    low, high = min(ratios.values()), max(ratios.values())
    span = f"{low:.3f}" if len(ratios) == 1 else f"{low:.3f} to {high:.3f}"
    seeds = f"{len(ratios)} seed" + ("s" if len(ratios) > 1 else "")
    told = f"{label}: its loss is {span} of that of the best constant prediction ({seeds})"
    if high < WELL_BELOW:
        return f"{told}: it trains."
    if low >= 1:
        return f"{told}: with this budget it does not train."
    if low >= WELL_BELOW:
        return f"{told}: with this budget it has hardly begun to look at the picture."
    return f"{told}: it trains with some seeds and not, or hardly, with others."


def _pairs() -> list[Comparison]:
    pairs = []
    for key, label in (("c2a1-4", "C2A1(4)"), ("c2a2-4", "C2A2(4)"), ("c3a1-4", "C3A1(4)"), ("c3a1-8", "C3A1(8)")):
        for other, budget in ((key, "same views"), (f"{key}-{SAME_COMPUTE}", "same compute")):
            title = f"{label}, DINO against random, {budget}"
            pairs.append(Comparison(title=title, arm=f"{key}-dino", other=other))
    return pairs


ALL_COMPARISONS = (
    *_pairs(),
    Comparison(title="8 against 4 heads, random", arm="c3a1-8", other="c3a1-4"),
    Comparison(title="8 against 4 heads, DINO", arm="c3a1-8-dino", other="c3a1-4-dino"),
    Comparison(title="C3A1(4) against C2A1(4), random", arm="c3a1-4", other="c2a1-4"),
    Comparison(title="C3A1(4) against C2A2(4), random", arm="c3a1-4", other="c2a2-4"),
    Comparison(title="C3A1(4) against C2A1(4), DINO", arm="c3a1-4-dino", other="c2a1-4-dino"),
    Comparison(title="C3A1(4) against C2A2(4), DINO", arm="c3a1-4-dino", other="c2a2-4-dino"),
    Comparison(title="6 against 4 encoder layers, DINO", arm="c3a1-4-dino-n6", other="c3a1-4-dino"),
    Comparison(title="Large against C3A1(4), DINO", arm="c3a1-4-dino-large", other="c3a1-4-dino"),
    Comparison(title="Sinkhorn against squared error, DINO", arm="c3a1-4-dino-sinkhorn", other="c3a1-4-dino"),
)
