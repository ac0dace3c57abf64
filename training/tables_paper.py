"""The paper's Tables 1 to 4 as data: each row of its network, and the rows of others beside it.

"-Dino" is not another network but another start; N6, Large and the Sinkhorn loss were tried with it only. All of the
paper's own figures are of COCO val2017 with ground-truth boxes (its released test script sets them); those of others in
Table 1 are as their authors published them, with a detector's boxes, which reads about 2 points lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from training.loss import Loss

Boxes = Literal["gt", "detections"]
PAPER_BOXES: Boxes = "gt"
SAME_COMPUTE = "same-compute"  # ends the name of an arm that the paper has not


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One training of the paper's network. AP and AR in 0..1, parameters in millions, None where it gives none."""

    key: str
    label: str
    variant: str
    dino: bool
    ap: float
    ar: float
    parameters_m: float
    loss: Loss = "mse"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A network of others in Table 1. `ap_gt` is what its authors report with ground-truth boxes, where they do."""

    label: str
    ap: float
    ar: float
    parameters_m: float
    boxes: Boxes = "detections"
    ap_gt: float | None = None


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table: its title, and groups of rows under headings (empty: none)."""

    number: int
    title: str
    groups: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """All rows, in order."""
        return tuple(key for _, keys in self.groups for key in keys)


_ROWS = (
    PaperRow(key="c2a1-4", label="C2A1(4)", variant="c2a1-4", dino=False, ap=0.742, ar=0.769, parameters_m=6.8),
    PaperRow(
        key="c2a2-4",
        label="C2A2(4)",
        variant="c2a2-4",
        dino=False,
        ap=0.590,
        ar=0.626,
        parameters_m=9.55,
        note='its training "went awry" (footnote 3)',
    ),
    PaperRow(key="c3a1-4", label="C3A1(4)", variant="c3a1-4", dino=False, ap=0.751, ar=0.778, parameters_m=10.1),
    PaperRow(key="c3a1-8", label="C3A1(8)", variant="c3a1-8", dino=False, ap=0.753, ar=0.781, parameters_m=10.1),
    PaperRow(
        key="c2a1-4-dino", label="C2A1(4)-Dino", variant="c2a1-4", dino=True, ap=0.752, ar=0.780, parameters_m=6.8
    ),
    PaperRow(
        key="c2a2-4-dino", label="C2A2(4)-Dino", variant="c2a2-4", dino=True, ap=0.750, ar=0.778, parameters_m=9.55
    ),
    PaperRow(
        key="c3a1-4-dino", label="C3A1(4)-Dino", variant="c3a1-4", dino=True, ap=0.764, ar=0.792, parameters_m=10.1
    ),
    PaperRow(
        key="c3a1-8-dino", label="C3A1(8)-Dino", variant="c3a1-8", dino=True, ap=0.760, ar=0.789, parameters_m=10.1
    ),
    PaperRow(
        key="c3a1-4-dino-n6",
        label="C3A1(4)-Dino-N6",
        variant="c3a1-4-n6",
        dino=True,
        ap=0.763,
        ar=0.791,
        parameters_m=11.67,
    ),
    PaperRow(
        key="c3a1-4-dino-large",
        label="C3A1(4)-Dino-Large",
        variant="c3a1-4-large",
        dino=True,
        ap=0.767,
        ar=0.793,
        parameters_m=23.82,
    ),
    PaperRow(
        key="c3a1-4-dino-sinkhorn",
        label="C3A1(4)-Dino, Sinkhorn",
        variant="c3a1-4",
        dino=True,
        ap=0.763,
        ar=0.790,
        parameters_m=10.1,
        loss="sinkhorn",
        note="section 4.2; the released code computes its plan without gradients, and trains by MSE",
    ),
)

ROWS: dict[str, PaperRow] = {row.key: row for row in _ROWS}

TABLES: dict[int, PaperTable] = {
    table.number: table
    for table in (
        PaperTable(number=1, title="beside other networks", groups=(("", ("c3a1-4-dino",)),)),
        PaperTable(
            number=2,
            title="random weights against self-supervised pre-training",
            groups=(
                ("random initialization", ("c2a1-4", "c2a2-4", "c3a1-4")),
                ("self-supervised pre-training", ("c2a1-4-dino", "c2a2-4-dino", "c3a1-4-dino")),
            ),
        ),
        PaperTable(
            number=3,
            title="4 against 8 heads in MHSA",
            groups=(
                ("random initialization", ("c3a1-4", "c3a1-8")),
                ("self-supervised pre-training", ("c3a1-4-dino", "c3a1-8-dino")),
            ),
        ),
        PaperTable(
            number=4,
            title="other variants",
            groups=(
                ("", ("c3a1-4-dino", "c3a1-4-dino-n6", "c3a1-4-dino-large")),
                ("beside the table: optimal transport", ("c3a1-4-dino-sinkhorn",)),
            ),
        ),
    )
}

REFERENCES = (
    Reference(label="SimpleBaseline-Res50", ap=0.704, ar=0.763, parameters_m=34.0),
    Reference(label="SimpleBaseline-Res101", ap=0.714, ar=0.763, parameters_m=53.0),
    Reference(label="SimpleBaseline-Res152", ap=0.720, ar=0.778, parameters_m=68.6),
    Reference(label="HRNet-W32", ap=0.744, ar=0.798, parameters_m=28.5),
    Reference(label="HRNet-W48", ap=0.751, ar=0.804, parameters_m=63.6),
    Reference(label="TransPose-R-A3", ap=0.717, ar=0.771, parameters_m=5.2),
    Reference(label="TransPose-R-A4", ap=0.726, ar=0.780, parameters_m=6.0, ap_gt=0.751),
    Reference(label="TransPose-H-S", ap=0.742, ar=0.780, parameters_m=8.0, ap_gt=0.761),
    Reference(label="TransPose-H-A4", ap=0.753, ar=0.803, parameters_m=17.3, ap_gt=0.775),
    Reference(label="TransPose-H-A6", ap=0.758, ar=0.808, parameters_m=17.5, ap_gt=0.781),
)


def chosen_rows(tables: Sequence[int], keys: Sequence[str] | None) -> list[PaperRow]:
    """The rows of some tables, each once, or those of them that are named. Raises ValueError for an unknown name."""
    of_tables = list(dict.fromkeys(key for number in tables for key in TABLES[number].keys))
    if keys is None:
        return [ROWS[key] for key in of_tables]
    for key in keys:
        if key not in of_tables:
            raise ValueError(f"row is {key!r}; allowed: {', '.join(of_tables)}")
    return [ROWS[key] for key in of_tables if key in keys]
