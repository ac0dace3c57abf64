"""Pairs of greatest total weight: the assignment problem, exactly, for the few dozen rows of one frame.

By shortest augmenting paths (Jonker and Volgenant, 1987). scipy solves it too, and is what the tests compare with; in
the service it would add more to the image than everything that follows people.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def assign(weights: Array) -> list[tuple[int, int]]:
    """The pairs (row, column) of greatest total weight, by row; each row and column in one pair at most.

    Args:
        weights: [N, M]; what is not above 0 is never paired.
    """
    if weights.shape[0] > weights.shape[1]:
        return sorted((row, column) for column, row in assign(weights.T))
    columns = weights.argmax(axis=1) if weights.size else np.zeros(0, dtype=np.intp)
    if len(set(columns.tolist())) < len(columns):  # two rows want the same; otherwise each has what it wants most
        gains = np.maximum(weights, 0.0)
        columns = _cheapest_columns(gains.max() - gains)
    return [(row, int(column)) for row, column in enumerate(columns) if weights[row, column] > 0]


def _cheapest_columns(cost: Array) -> npt.NDArray[np.intp]:
    """A column of its own for each row, so that they cost least together; cost [N, M], N <= M, not negative."""
    rows, columns = cost.shape
    row_of = np.full(columns, -1)
    row_price, column_price = np.zeros(rows), np.zeros(columns)  # cost - prices >= 0, and 0 for the pairs that are made
    for start in range(rows):
        distance, before = np.full(columns, np.inf), np.full(columns, -1)  # of the shortest path to each column
        reached = np.zeros(columns, dtype=bool)
        row, column, far = start, -1, 0.0
        while True:
            step = far + cost[row] - row_price[row] - column_price
            shorter = ~reached & (step < distance)
            distance[shorter], before[shorter] = step[shorter], column
            column = int(np.where(reached, np.inf, distance).argmin())
            far, reached[column] = float(distance[column]), True
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        passed = reached & (row_of >= 0)
        row_price[start] += far
        row_price[row_of[passed]] += far - distance[passed]
        column_price[passed] -= far - distance[passed]
        _turn(row_of, before, column, start)
    return np.argsort(np.where(row_of < 0, columns, row_of), kind="stable")[:rows]


def _turn(row_of: npt.NDArray[np.intp], before: npt.NDArray[np.intp], column: int, start: int) -> None:
    """Make the pairs along a path, from its free column back to the row that it began at."""
    while before[column] >= 0:
        row_of[column] = row_of[before[column]]
        column = int(before[column])
    row_of[column] = start
