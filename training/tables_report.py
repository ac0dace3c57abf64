"""The report of a small table: figures by arm and seed, means with their spread, and sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.tables_comparison import Difference, comparisons, difference, in_words, learning_in_words
from training.tables_protocol import Protocol
from training.tables_results import FIGURES, ArmResult, by_seed, mean_and_spread

WIDTH = 100
COLUMNS = ("arm", "seed", "AP", "AP50", "mean OKS", "PCK@0.2", "loss", "/const", "views", "TFLOP", "seconds")
WIDTHS = (23, 5, 7, 7, 9, 9, 9, 7, 8, 8, 8)
DIGITS = {"AP": 4, "AP50": 4, "mean_oks": 4, "pck": 4, "loss": 6, "loss_ratio": 3}
COMPARED = "mean_oks"  # one figure, chosen before anything was measured: AP is near 0 at small budgets

Cells = tuple[str, ...]


def describe_protocol(protocol: Protocol) -> list[str]:
    """What all arms have in common, in sentences."""
    rows, columns = protocol.input_hw
    return [
        f"Crops of {rows}x{columns}, {protocol.steps * protocol.batch_size:,} views of persons in batches of "
        f"{protocol.batch_size}, learning rate {protocol.learning_rate:g}; pre-training: "
        f"{protocol.pretrain_steps * protocol.pretrain_batch_size:,} pictures in batches of "
        f"{protocol.pretrain_batch_size}.",
        f"Trained on {', '.join(_short(json) for json, _ in protocol.train)}; measured on {_short(protocol.val[0])} "
        "with ground-truth boxes and flip test, the network of the last step.",
        *(
            f"Further options of {name}: {options}"
            for name, options in (
                ("training.train", protocol.train_options),
                ("training.pretrain", protocol.pretrain_options),
            )
            if options
        ),
    ]


def table(results: Sequence[ArmResult]) -> list[Cells]:
    """The rows under `COLUMNS`: seeds, then the mean with its spread, then the floor."""
    rows: list[Cells] = []
    for name in dict.fromkeys(one.arm.name for one in results):
        of_arm = [one for one in results if one.arm.name == name]
        rows += [_row(one) for one in of_arm if one.finished]
        finished = [one for one in of_arm if one.finished]
        if len(finished) > 1:
            rows += _summary_rows(name, finished)
    if floor := next((one.mean_pose for one in results if one.mean_pose), None):
        rows.append(
            ("mean pose in every box", "", "", "", f"{floor['mean_oks']:.4f}", f"{floor['pck']:.4f}", "", "1.000")
            + ("",) * 3
        )
    return rows


def _row(result: ArmResult) -> Cells:
    figures = tuple(f"{result.figures[name]:.{DIGITS[name]}f}" for name in FIGURES)
    cost = (str(result.views), f"{result.arm.flops / 1e12:.1f}", f"{result.seconds:.0f}")
    return (result.arm.name, str(result.seed), *figures, *cost)


def _summary_rows(name: str, finished: Sequence[ArmResult]) -> list[Cells]:
    both = [mean_and_spread([one.figures[figure] for one in finished]) for figure in FIGURES]
    means = tuple(f"{mean:.{DIGITS[figure]}f}" for figure, (mean, _) in zip(FIGURES, both, strict=True))
    spreads = tuple(f"{spread or 0:.{DIGITS[figure]}f}" for figure, (_, spread) in zip(FIGURES, both, strict=True))
    return [(name, "mean", *means, "", "", ""), (name, "±", *spreads, "", "", "")]


def sentences(results: Sequence[ArmResult]) -> list[str]:
    """What can be said: of each comparison for which both arms are there, and whether each row trains at all."""
    names = list(dict.fromkeys(one.arm.name for one in results))
    said = []
    for one in comparisons(names):
        found = difference(by_seed(results, one.arm, COMPARED), by_seed(results, one.other, COMPARED))
        said.append(in_words(one, found))
    labels = {one.arm.name: one.arm.row.label for one in results if not one.arm.same_compute}
    return said + [
        learning_in_words(f"{label} ({name})", by_seed(results, name, "loss_ratio")) for name, label in labels.items()
    ]


def unfinished(results: Sequence[ArmResult]) -> list[str]:
    """Arms without figures, and why."""
    return [f"{one.arm.name}, seed {one.seed}: {one.state}" for one in results if not one.finished]


def as_text(protocol: Protocol, results: Sequence[ArmResult]) -> str:
    """For a terminal of 100 columns."""
    lines = [line for sentence in describe_protocol(protocol) for line in textwrap.wrap(sentence, WIDTH)]
    lines += ["", _line(COLUMNS)]
    before = ""
    for cells in table(results):
        lines.append(_line((cells[0] if cells[0] != before else "", *cells[1:])))
        before = cells[0]
    lines += ["", *(textwrap.fill(note, WIDTH) for note in NOTES), ""]
    lines += [
        textwrap.fill(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ") for sentence in sentences(results)
    ]
    if left := unfinished(results):
        lines += ["", "not there:", *(f"  {one}"[:200] for one in left)]
    return "\n".join(lines)


NOTES = (
    "loss: squared error of the heatmaps on the measured persons; /const: the same, relative to the best prediction "
    "that is the same for everybody. ±: standard deviation over seeds. TFLOP: counted operations, pre-training "
    "included. seconds: of the commands, on a machine that may have been busy.",
)


def as_markdown(protocol: Protocol, results: Sequence[ArmResult]) -> str:
    """For a page of documentation."""
    lines = [*describe_protocol(protocol), "", _markdown_line(COLUMNS), _markdown_line(["---"] * len(COLUMNS))]
    lines += [_markdown_line(cells) for cells in table(results)]
    lines += ["", *NOTES, "", *(f"- {sentence}" for sentence in sentences(results))]
    if left := unfinished(results):
        lines += ["", "Not there:", "", *(f"- {one}" for one in left)]
    return "\n".join(lines)


def as_json(protocol: Protocol, results: Sequence[ArmResult]) -> dict[str, Any]:
    """Everything, as plain JSON."""
    names = list(dict.fromkeys(one.arm.name for one in results))
    return {
        "protocol": protocol.to_json() | {"boxes": "gt", "flip_test": True},
        "arms": [
            {
                "arm": one.arm.name,
                "row": one.arm.row.key,
                "seed": one.seed,
                "state": one.state,
                "views": one.views,
                "pictures": one.arm.pictures,
                "flops": one.arm.flops,
                "seconds": one.seconds,
                **one.figures,
                "mean_pose": one.mean_pose or None,
            }
            for one in results
        ],
        "comparisons": [
            {
                "title": one.title,
                "arm": one.arm,
                "other": one.other,
                "paper_ap": one.paper_ap,
                "differences": {
                    figure: _plain(difference(by_seed(results, one.arm, figure), by_seed(results, one.other, figure)))
                    for figure in FIGURES
                },
            }
            for one in comparisons(names)
        ],
        "sentences": sentences(results),
    }


def _plain(found: Difference | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found) | {"claimed": found.claimed}


def _line(cells: Sequence[str]) -> str:
    first = f"{cells[0]:<{WIDTHS[0]}}"
    return (first + "".join(f"{cell:>{width}}" for cell, width in zip(cells[1:], WIDTHS[1:], strict=True))).rstrip()


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _short(path: str) -> str:
    return Path(path).name
