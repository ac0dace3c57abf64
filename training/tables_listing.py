"""The paper's tables beside what was measured here: as text, as Markdown, and as JSON."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from training.tables_cards import MeasuredCard, Measurement, measurements
from training.tables_commands import FullScale, in_lines, row_commands
from training.tables_paper import PAPER_BOXES, REFERENCES, ROWS, TABLES, PaperRow, Reference

WIDTH = 100
NOTES = (
    "AP and AR in points (0 to 100). The paper's own rows are of COCO val2017 with ground-truth boxes (gt), those of "
    "others with a detector's, which read about 2 points lower: the two are not to be compared."
)


def as_text(
    tables: Sequence[int], rows: Sequence[PaperRow], cards: Sequence[MeasuredCard], places: FullScale, *, commands: bool
) -> str:
    """For a terminal of 100 columns; each row's commands only where it comes first, and if they are asked for."""
    lines, shown = textwrap.wrap(NOTES, WIDTH), set[str]()
    for number in tables:
        groups = _groups(number, rows)
        if not groups:
            continue
        lines += ["", f"Table {number}: {TABLES[number].title}"]
        lines.append(f"  {'row':<22}{'label':<24}{'params':>9}{'AP':>7}{'AR':>7}  boxes")
        if number == 1:
            lines += map(_reference_line, REFERENCES)
        for heading, of_group in groups:
            lines += [f"  -- {heading} --"] if heading else []
            for row in of_group:
                lines += _row_lines(row, cards)
                if commands and row.key not in shown:
                    lines += _command_lines(row, places)
                    shown.add(row.key)
    if not commands:
        lines += ["", "--commands shows what trains and measures each row; --run does it in small."]
    return "\n".join(lines)


def _row_lines(row: PaperRow, cards: Sequence[MeasuredCard]) -> list[str]:
    figures = f"{row.parameters_m:>7.2f} M{100 * row.ap:>7.1f}{100 * row.ar:>7.1f}  {PAPER_BOXES}"
    lines = [f"  {row.key:<22}{row.label:<24}{figures}"]
    lines += [f"    ({row.note})"] if row.note else []
    ours = best_protocol(measurements(row, cards))
    lines += [f"    ours: {line}" for one in ours for line in _measurement_lines(one)]
    return lines


def _measurement_lines(one: Measurement) -> list[str]:
    rows, columns = one.input_hw
    return [
        f"AP {100 * one.ap:.1f}, AR {100 * one.ar:.1f}, boxes {one.boxes}{_flip(one)}, {rows}x{columns}, "
        f"{one.checkpoint},\n          on {one.images} images of {one.annotations}"
    ]


def _reference_line(one: Reference) -> str:
    gt = f"; gt: {100 * one.ap_gt:.1f}" if one.ap_gt is not None else ""
    figures = f"{one.parameters_m:>7.2f} M{100 * one.ap:>7.1f}{100 * one.ar:>7.1f}  {one.boxes}{gt}"
    return f"  {'-':<22}{one.label:<24}{figures}"


def _command_lines(row: PaperRow, places: FullScale) -> list[str]:
    lines = []
    for what, command in row_commands(row, places).items():
        lines += [f"    # {what}", in_lines(command, WIDTH, indent="    ")]
    return [*lines, ""]


def as_markdown(
    tables: Sequence[int], rows: Sequence[PaperRow], cards: Sequence[MeasuredCard], places: FullScale, *, commands: bool
) -> str:
    """For a page of documentation."""
    lines = [NOTES]
    for number in tables:
        groups = _groups(number, rows)
        if not groups:
            continue
        lines += ["", f"### Table {number}: {TABLES[number].title}", ""]
        lines += ["| row | label | parameters | AP | AR | boxes | ours |", "|---|---|---|---|---|---|---|"]
        if number == 1:
            lines += map(_reference_markdown, REFERENCES)
        for _, of_group in groups:
            lines += [_row_markdown(row, cards) for row in of_group]
    if commands:
        for row in rows:
            lines += ["", f"`{row.key}`, {row.label}:", "", "```"]
            lines += [in_lines(command, WIDTH) for command in row_commands(row, places).values()]
            lines.append("```")
    return "\n".join(lines)


def _row_markdown(row: PaperRow, cards: Sequence[MeasuredCard]) -> str:
    ours = [
        f"AP {100 * one.ap:.1f}, AR {100 * one.ar:.1f}: {one.annotations}, {one.images} images, boxes {one.boxes}"
        f"{_flip(one)}, {one.input_hw[0]}x{one.input_hw[1]}, `{one.checkpoint}`"
        for one in best_protocol(measurements(row, cards))
    ]
    cells = (
        f"`{row.key}`",
        row.label,
        f"{row.parameters_m:g} M",
        f"{100 * row.ap:.1f}",
        f"{100 * row.ar:.1f}",
        PAPER_BOXES,
        "<br>".join(ours) or "-",
    )
    return "| " + " | ".join(cells) + " |"


def _reference_markdown(one: Reference) -> str:
    gt = f" (with gt: AP {100 * one.ap_gt:.1f})" if one.ap_gt is not None else ""
    return (
        f"| - | {one.label} | {one.parameters_m:g} M | {100 * one.ap:.1f} | {100 * one.ar:.1f} | {one.boxes}{gt} | - |"
    )


def as_json(
    tables: Sequence[int], rows: Sequence[PaperRow], cards: Sequence[MeasuredCard], places: FullScale
) -> dict[str, Any]:
    """Everything as plain JSON: a row for each place in a table, all measurements, and commands for a shell."""
    listed = [
        {"table": number, "group": heading, **_row_json(row, cards, places)}
        for number in tables
        for heading, of_group in _groups(number, rows)
        for row in of_group
    ]
    return {"rows": listed, "references": [asdict(one) for one in REFERENCES] if 1 in tables else []}


def _row_json(row: PaperRow, cards: Sequence[MeasuredCard], places: FullScale) -> dict[str, Any]:
    return {
        "key": row.key,
        "label": row.label,
        "variant": row.variant,
        "dino": row.dino,
        "loss": row.loss,
        "parameters_m": row.parameters_m,
        "published": {"AP": row.ap, "AR": row.ar, "boxes": PAPER_BOXES, "data": "COCO val2017"},
        "note": row.note,
        "measured": [asdict(one) for one in measurements(row, cards)],
        "commands": {what: shlex.join(command) for what, command in row_commands(row, places).items()},
    }


def best_protocol(found: Sequence[Measurement]) -> list[Measurement]:
    """Of each checkpoint, annotations and boxes one figure to show: that with the flip test where there is one."""
    chosen: dict[tuple[str, str, str], Measurement] = {}
    for one in sorted(found, key=lambda one: not one.flip_test):
        chosen.setdefault((one.checkpoint, one.annotations, one.boxes), one)
    return list(chosen.values())


def _groups(number: int, rows: Sequence[PaperRow]) -> list[tuple[str, list[PaperRow]]]:
    """A table's groups, with those of its rows that were chosen; groups without any are left out."""
    keys = {row.key for row in rows}
    groups = [(heading, [ROWS[key] for key in of_group if key in keys]) for heading, of_group in TABLES[number].groups]
    return [group for group in groups if group[1]]


def _flip(one: Measurement) -> str:
    return {True: ", flip test", False: ", no flip test", None: ""}[one.flip_test]
