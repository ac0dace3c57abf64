r"""The paper's Tables 1 to 4: their rows, the commands that train each, what was published, and what we measured.

    python -m training.tables
    python -m training.tables --table 2 --rows c3a1-4 c3a1-4-dino --commands

A table in small, with equal budgets and differences over seeds (views: crops of persons seen in training; pictures:
seen in pre-training). The same command again goes on where it was cut off:

    python -m training.tables --run --table 2 --train train.json train --val dev.json dev \
        --budget 20000 --pretrain-budget 20000 --seeds 0 1 2 --input 96x72 --runs-dir runs/tables
    python -m training.tables --report --runs-dir runs/tables --markdown
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from model.checkpoint import write_atomically
from model.variants import Position
from training.tables_paper import TABLES, chosen_rows
from training.tables_runner import RunsLocked
from training.train import parse_input_hw

RUNS_DIR = Path("runs/tables")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--table", type=int, nargs="+", default=list(TABLES), choices=TABLES, metavar="N", help="1 to 4; default: all")
    add("--rows", nargs="+", metavar="KEY", help="only these of the tables' rows")
    add("--json", type=Path, metavar="OUT", help="also write everything here")
    add("--markdown", action="store_true", help="print Markdown")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--run", action="store_true", help="train and measure the rows in small, then report")
    what.add_argument("--report", action="store_true", help="report what --run has come to so far")
    add("--position", default="relative", choices=get_args(Position), help="position terms of MHSA")
    _add_listing(parser.add_argument_group("the tables"))
    _add_running(parser.add_argument_group("--run, --report"))
    return parser


def _add_listing(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--commands", action="store_true", help="show the commands of each row")
    add("--checkpoints", type=Path, default=Path("checkpoints"), metavar="DIR", help="whose cards have our figures")
    add("--coco", type=Path, default=Path("coco"), metavar="DIR", help="for the commands: annotations, train2017, ...")
    add("--imagenet", type=Path, default=Path("imagenet/train"), metavar="DIR", help="for the commands: pictures")


def _add_running(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--runs-dir", type=Path, default=RUNS_DIR, metavar="DIR", help=f"default: {RUNS_DIR}")
    add("--train", nargs=2, action="append", default=[], metavar=("JSON", "DIR"), help="may be repeated")
    add("--val", nargs=2, metavar=("JSON", "DIR"), help="what is measured on")
    add("--budget", type=int, metavar="VIEWS", help="of persons, in training; the same for every row")
    add("--pretrain-budget", type=int, metavar="PICTURES", help="in pre-training; default: as many as --budget")
    add("--pretrain-images", nargs="+", default=[], metavar="DIR", help="default: the training persons' boxes")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--same-compute", action=argparse.BooleanOptionalAction, default=True,
        help="also train from random weights for as many operations as with pre-training")  # fmt: skip
    add("--input", dest="input_hw", type=parse_input_hw, default=(96, 72), metavar="HxW", help="default: 96x72")
    add("--sigma", type=float, default=1.5, help="of the targets, heatmap pixels; default: 1.5")
    add("--batch-size", type=int, default=16)
    add("--pretrain-batch-size", type=int, default=32)
    add("--learning-rate", type=float, default=5e-4, help="peak, of training; default: 5e-4")
    add("--train-options", default="", metavar="TEXT", help="further options of training.train, in quotes")
    add("--pretrain-options", default="", metavar="TEXT", help="further options of training.pretrain, in quotes")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=int, help="of each command (OMP_NUM_THREADS); default: as the environment has it")
    add("--workers", type=int, default=1, help="loader processes of each command; default: 1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 if an arm failed, 2 for options or files that do not work."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if given.run and not (given.train and given.val and given.budget):
        parser.error("--run needs --train, --val and --budget")
    try:
        if given.run or given.report:
            return _small(given)
        return _list(given)
    except (ValueError, OSError, RunsLocked) as error:
        print(f"training.tables: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("training.tables: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _small(given: argparse.Namespace) -> int:
    from training.tables_protocol import Protocol
    from training.tables_report import as_json, as_markdown, as_text
    from training.tables_small import read_small, run_small

    rows = [row.key for row in chosen_rows(given.table, given.rows)]
    well = True
    if given.run:
        protocol = Protocol(
            train=tuple((annotations, images) for annotations, images in given.train),
            val=(given.val[0], given.val[1]),
            views=given.budget,
            pictures=given.pretrain_budget or given.budget,
            pretrain_images=tuple(given.pretrain_images),
            input_hw=given.input_hw,
            sigma=given.sigma,
            position=given.position,
            batch_size=given.batch_size,
            pretrain_batch_size=given.pretrain_batch_size,
            learning_rate=given.learning_rate,
            device=given.device,
            train_options=given.train_options,
            pretrain_options=given.pretrain_options,
        )
        well = run_small(
            protocol,
            rows,
            given.seeds,
            given.runs_dir,
            same_compute=given.same_compute,
            threads=given.threads,
            workers=given.workers,
        )
        print()
    done = read_small(given.runs_dir, rows)
    print(as_markdown(*done) if given.markdown else as_text(*done))
    if given.json is not None:
        write_json(given.json, as_json(*done))
    return 0 if well else 1


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file of JSON, in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _list(given: argparse.Namespace) -> int:
    from training.tables_cards import read_cards
    from training.tables_commands import FullScale
    from training.tables_listing import as_json, as_markdown, as_text

    rows = chosen_rows(given.table, given.rows)
    cards = read_cards(given.checkpoints)
    places = FullScale(coco=given.coco, imagenet=given.imagenet, position=given.position)
    show = as_markdown if given.markdown else as_text
    print(show(given.table, rows, cards, places, commands=given.commands))
    if given.json is not None:
        write_json(given.json, as_json(given.table, rows, cards, places))
    return 0


if __name__ == "__main__":
    sys.exit(main())
