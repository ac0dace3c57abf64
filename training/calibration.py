"""How far a score can be believed: reliability tables and the expected calibration error.

A score that is calibrated equals, on average, what it foretells. The score of a pose is compared with the OKS of that
pose, the confidence of a keypoint with the similarity of that joint (its part of OKS): both lie in 0..1, so no
threshold has to say what counts as right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 10

Floats = npt.NDArray[np.float64]


def reliability(scores: Floats, outcomes: Floats, bins: int = BINS) -> dict[str, Any]:
    """Scores [N] in 0..1 sorted into equally wide bins, beside what came of them [N] in 0..1: plain JSON.

    Each bin has `low` and `high` (a score on the border belongs to the upper bin; 1 to the last), `count`, and the
    means of `score` and `outcome`, None in an empty one. `expected_calibration_error` is the mean, over all scores, of
    the distance between the two means of their bin. Raises ValueError for a score beyond 0..1, or when there is none.
    """
    if not len(scores):
        raise ValueError("no scores; allowed: at least one, to compare with what came of it")
    if not ((scores >= 0) & (scores <= 1)).all():
        worst = scores[np.argmax(np.abs(scores - 0.5))]
        raise ValueError(f"a score is {worst}; allowed: 0..1")
    edges = np.linspace(0, 1, bins + 1)
    numbers = np.minimum((scores * bins).astype(int), bins - 1)
    rows: list[dict[str, Any]] = []
    error = 0.0
    for number in range(bins):
        inside = numbers == number
        row: dict[str, Any] = {"low": round(float(edges[number]), 6), "high": round(float(edges[number + 1]), 6)}
        row |= {"count": int(inside.sum()), "score": None, "outcome": None}
        if inside.any():
            row |= {"score": float(scores[inside].mean()), "outcome": float(outcomes[inside].mean())}
            error += inside.mean() * abs(row["score"] - row["outcome"])
        rows.append(row)
    return {"count": len(scores), "expected_calibration_error": float(error), "bins": rows}


def as_text(title: str, table: dict[str, Any]) -> str:
    """A reliability table for a terminal."""
    lines = [
        f"{title}: expected calibration error {table['expected_calibration_error']:.3f} over {table['count']}",
        f"  {'score':<12}{'count':>7}{'mean score':>12}{'what came':>11}",
    ]
    for row in table["bins"]:
        if row["count"]:
            span = f"{row['low']:.1f} to {row['high']:.1f}"
            lines.append(f"  {span:<12}{row['count']:>7}{row['score']:>12.3f}{row['outcome']:>11.3f}")
    return "\n".join(lines)
