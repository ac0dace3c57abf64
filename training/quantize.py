r"""The network of a checkpoint in int8, for OpenVINO on a CPU: smaller, faster, and nearly as accurate.

    python -m training.quantize --checkpoint checkpoints/c3a1-4.safetensors \
        --annotations person_keypoints_train2017.json --images train2017

writes `checkpoints/c3a1-4.int8.xml` and `.bin`, which `python -m service --precision int8` serves and
`python -m training.evaluate --precision int8` measures. Needs `pip install '.[quantize]'`; what runs the file does not.

Ranges of the network's values are found on persons in their annotated boxes: take photographs that it was trained on,
so that those it is measured on stay unseen. Convolutions and linear layers are quantised; attention, its position terms
and the normalisation of layers are not.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from model.btranspose import BTranspose
from model.checkpoint import load_checkpoint
from model.crop import Pixels
from model.device import pick_dtype
from model.openvino_runtime import convert, keep
from model.pick_runtime import pick_runtime
from model.quantised import SUFFIX, quantised_path, sign
from model.variants import PoseConfig
from training.coco import AnnotationError, KeypointData, read_persons
from training.keypoint_sets import FROM_FILE, KeypointChoice, add_keypoint_options
from training.predict import crop_each
from training.provenance import short_name

if TYPE_CHECKING:
    import openvino as ov

CPU = torch.device("cpu")


def calibration_crops(data: KeypointData, config: PoseConfig, *, persons: int) -> Pixels:
    """[N, H, W, 3] uint8 RGB: the crops of `persons` persons, spread evenly over the data; all if it has no more."""
    count = min(persons, len(data.persons))
    chosen = [data.persons[index] for index in np.linspace(0, len(data.persons) - 1, count).round().astype(int)]
    crops = tqdm(crop_each(chosen, config), total=count, desc="crops", unit="person", dynamic_ncols=True)
    return np.stack([crop.pixels for _, crop in crops])


def quantise(net: BTranspose, crops: Pixels) -> ov.Model:
    """The network in int8 for OpenVINO, its normalisation included, for any number of crops at a time.

    Args:
        net: on the CPU; left as it is.
        crops: [N, H, W, 3] uint8 RGB, on which the ranges of values are found.

    Raises ModuleNotFoundError without the package `nncf`.
    """
    import nncf  # like OpenVINO it tells its makers that it is used; `model.openvino_runtime` keeps both from it

    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        convert(net),
        nncf.Dataset([crop[None] for crop in crops]),
        # Weights and activations are symmetric but for activations that are never negative, as after a ReLU.
        preset=nncf.QuantizationPreset.MIXED,
        # Keeps attention out of it: with that in int8, too, one person takes longer than in bf16.
        model_type=nncf.ModelType.TRANSFORMER,
        # Which would round queries and keys, though OpenVINO multiplies them in floats.
        ignored_scope=nncf.IgnoredScope(types=["ScaledDotProductAttention"]),
        subset_size=len(crops),
    )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.quantize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="NAME.safetensors, with NAME.json beside it")
    add("--annotations", type=Path, required=True, metavar="JSON", help="persons that the network was trained on")
    add("--images", type=Path, required=True, metavar="DIR", help="their photographs")
    add_keypoint_options(parser)
    add("--persons", type=int, default=300, metavar="N", help="how many of them are looked at (300)")
    add("--out", type=Path, metavar=f"FILE{SUFFIX}", help="by default beside the checkpoint, where it is looked for")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 for options or files that do not work."""
    parser = build_parser()
    given = parser.parse_args(argv)
    out = given.out or quantised_path(given.checkpoint)
    if given.persons < 1:
        parser.error(f"--persons is {given.persons}; allowed: at least 1")
    if not out.name.endswith(SUFFIX):
        parser.error(f"--out is {out}; allowed: a name that ends in {SUFFIX}")
    try:
        choice = KeypointChoice(given.keypoints, given.category)
        quantise_checkpoint(
            given.checkpoint, given.annotations, given.images, persons=given.persons, out=out, choice=choice
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:
        hint = "; try: pip install '.[quantize]'" if isinstance(error, ModuleNotFoundError) else ""
        print(f"training.quantize: {error}{hint}", file=sys.stderr)
        return 2
    size = out.stat().st_size + out.with_suffix(".bin").stat().st_size
    print(f"{out}: {size / 2**20:.1f} MiB with {out.with_suffix('.bin').name}")
    print("measure it by: python -m training.evaluate --precision int8 ...")
    return 0


def quantise_checkpoint(
    checkpoint: Path,
    annotations: Path,
    images: Path,
    *,
    persons: int,
    out: Path,
    choice: KeypointChoice = FROM_FILE,
) -> None:
    """Write the network of a checkpoint in int8; nothing if it answers otherwise than the network.

    Args:
        checkpoint: NAME.safetensors.
        annotations, images: COCO's layout.
        persons: how many are looked at.
        out: NAME.int8.xml; NAME.int8.bin will lie beside it.
        choice: of the annotations' keypoints, see `training.keypoint_sets`.

    Raises ValueError or OSError for files that do not work, ModuleNotFoundError without the package `nncf`.
    """
    net, card = load_checkpoint(checkpoint)
    data = read_persons(annotations, images, choice=choice, known=(net.config.skeleton,))
    if not data.persons:
        raise AnnotationError(f"{annotations} has no person with a labelled joint")
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    crops = calibration_crops(data, net.config, persons=persons)
    model = quantise(net, crops)
    calibration = {"annotations": short_name(annotations), "persons": len(crops), "boxes": "gt"}
    sign(model, net.config, checkpoint_sha256=card.sha256, calibration=calibration)

    def check(written: Path) -> None:
        pick_runtime("openvino", net, CPU, pick_dtype("auto", CPU), checkpoint_sha256=card.sha256, quantised=written)

    keep(model, out, check=check)


if __name__ == "__main__":
    sys.exit(main())
