"""The file of a network in int8: beside its checkpoint, made from photographs by `python -m training.quantize`.

`NAME.int8.xml` and `NAME.int8.bin` are a network as OpenVINO keeps them. They name the checkpoint and the network that
they were made from, and how; what belongs to another is refused. Of the photographs there is nothing in them but the
ranges that the network's values took.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.skeleton import COCO
from model.variants import PoseConfig

if TYPE_CHECKING:
    import openvino as ov

INT8 = "int8"
SUFFIX = ".int8.xml"
SECTION = "btranspose"  # of what an OpenVINO file tells about itself


def quantised_path(checkpoint: Path) -> Path:
    """Where the network of a checkpoint lies in int8: NAME.safetensors -> NAME.int8.xml."""
    return checkpoint.with_suffix(SUFFIX)


def sign(model: ov.Model, config: PoseConfig, *, checkpoint_sha256: str, calibration: dict[str, Any]) -> None:
    """Write into a quantised network where it comes from: what `read_quantised` checks, and what is good to know."""
    told = {"checkpoint_sha256": checkpoint_sha256, "config": config.to_json(), "calibration": calibration}
    for name, value in told.items():
        model.set_rt_info(json.dumps(value), [SECTION, name])


def read_quantised(core: ov.Core, path: Path, config: PoseConfig, *, checkpoint_sha256: str) -> ov.Model:
    """The network of a file in int8.

    Raises ValueError, naming the file and what makes it, if it is missing, damaged, or of another checkpoint or crop
    size.
    """
    remedy = f"make it by: python -m training.quantize --checkpoint {_checkpoint(path)} --annotations JSON --images DIR"
    for part in (path, path.with_suffix(".bin")):
        if not part.is_file():
            raise ValueError(f"{part} does not exist, and precision is 'int8'; {remedy}")
    try:
        model = core.read_model(path)
        told = {name: _told(model, name) for name in ("checkpoint_sha256", "config")}
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or not a network of training.quantize; {remedy}") from error
    wanted = {"checkpoint_sha256": checkpoint_sha256, **_as_read(config.to_json())}
    # What was signed before there were other keypoint sets is of COCO's.
    found = {"checkpoint_sha256": told["checkpoint_sha256"], "skeleton": _as_read(COCO.to_json()), **told["config"]}
    for name in wanted:
        if found.get(name) != wanted[name]:
            raise ValueError(
                f"{path} belongs to another network: its {name} is {found.get(name)!r}; "
                f"allowed: {wanted[name]!r}. To replace it, {remedy}"
            )
    return model


def _told(model: ov.Model, name: str) -> Any:
    """One thing that the file tells about itself. Raises RuntimeError or ValueError if it does not."""
    return json.loads(model.get_rt_info([SECTION, name]).astype(str))


def _as_read(value: dict[str, Any]) -> Any:
    """What JSON makes of it: lists of tuples."""
    return json.loads(json.dumps(value))


def _checkpoint(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(SUFFIX) + ".safetensors")
