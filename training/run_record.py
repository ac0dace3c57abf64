"""What a run left on disk, read back: settings, a row per epoch, the card of its product; and its setting in words.

Names data by the last part of their paths, and never a machine's folders.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.variants import VARIANTS

POSE, PRETRAINING = "best", "dino"  # the product of a run, and so its kind
# Augmentations that are told where they are on.
BEYOND_RECIPE = ("cut", "shift", "stretch", "brightness", "contrast", "saturation", "grey", "cover")


class RunError(ValueError):
    """A folder is not that of a run. The message names it and what is missing."""


@dataclass(frozen=True)
class RunRecord:
    """A run: the name of its folder, `POSE` or `PRETRAINING`, its settings, a row per epoch, its product's card."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    card: Mapping[str, Any]

    @property
    def epochs(self) -> int:
        """Planned. Of a run of so many steps: those that they begin, as far as the card tells how long one is."""
        if (steps := self.settings.get("steps")) is None:
            return int(self.settings["epochs"])
        data = self.card.get("data", ())
        examples = data.get("views_of", 0) if isinstance(data, Mapping) else sum(one["persons"] for one in data)
        if steps_per_epoch := examples // int(self.settings["batch_size"]):
            return math.ceil(int(steps) / steps_per_epoch)
        return max((int(row["epoch"]) for row in self.rows), default=1)

    def values(self, column: str) -> tuple[list[float], list[float]]:
        """Epochs, and the values of a column in those that have one."""
        found = [(float(row["epoch"]), row[column]) for row in self.rows if isinstance(row.get(column), int | float)]
        return [epoch for epoch, _ in found], [float(value) for _, value in found]

    def best_ap(self) -> tuple[int, float] | None:
        """The epoch with the highest AP on the validation set, and that AP; None before the first validation."""
        epochs, values = self.values("val_AP")
        if not values:
            return None
        best = max(range(len(values)), key=values.__getitem__)
        return int(epochs[best]), values[best]


def read_records(run_dirs: Sequence[Path]) -> list[RunRecord]:
    """Of several runs, under names that tell them apart: as many of the last folders as that takes. Raises RunError."""
    parts = [run_dir.resolve().parts for run_dir in run_dirs]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if len(set(names)) == len(set(parts)):
            break
    return [replace(read_record(run_dir), name=name) for run_dir, name in zip(run_dirs, names, strict=True)]


def read_record(run_dir: Path) -> RunRecord:
    """Read `settings.json`, `log.jsonl` and the card. Raises RunError."""
    try:
        settings = json.loads((run_dir / "settings.json").read_bytes())
        lines = (run_dir / "log.jsonl").read_text().splitlines() if (run_dir / "log.jsonl").exists() else []
    except OSError as error:
        raise RunError(f"{run_dir} is not the folder of a run: {error.strerror}: {error.filename}") from error
    except ValueError as error:
        raise RunError(f"{run_dir}/settings.json is not JSON: {error}") from error
    if not isinstance(settings, dict) or "epochs" not in settings:
        raise RunError(f"{run_dir}/settings.json has no `epochs`; allowed: the settings of a training run")
    kind = PRETRAINING if "out_dim" in settings else POSE
    rows: dict[int, Mapping[str, Any]] = {}
    for line in lines:
        try:
            row = json.loads(line)
            rows[int(row["epoch"])] = row  # of an epoch that was done twice the later one counts
        except (KeyError, TypeError, ValueError):
            continue  # a line that was cut off
    ordered = [rows[epoch] for epoch in sorted(rows)]
    return RunRecord(run_dir.resolve().name, kind, settings, ordered, _read_card(run_dir / f"{kind}.json"))


def _read_card(path: Path) -> Mapping[str, Any]:
    try:
        training = json.loads(path.read_bytes())["training"]
    except (OSError, KeyError, TypeError, ValueError):
        return {}
    return training if isinstance(training, dict) else {}


def in_words(record: RunRecord) -> list[list[str]]:
    """The setting of a run: facts in four lines, of network, data, optimisation, and views with speed."""
    return _pose_words(record) if record.kind == POSE else _pretraining_words(record)


def headline(record: RunRecord) -> str:
    """What came of it, in one line."""
    done = f"{len(record.rows) and int(record.rows[-1]['epoch'])} of {record.epochs} epochs"
    best = record.best_ap()
    if best is not None:
        return f"{record.name}: best AP {best[1]:.3f} (epoch {best[0]}), {done}"
    return f"{record.name}: {done}"


def _pose_words(record: RunRecord) -> list[list[str]]:
    get = record.settings.get
    data = [
        f"{one['persons']:,} persons in {one['photographs']:,} photographs of {_last(one['annotations'])}"
        for one in record.card.get("data", ())
    ] or [_last(annotations) for annotations, _ in get("train_sets", ())]
    chosen_on = record.card.get("chosen_on")
    chosen = f"{chosen_on['persons']:,} persons of " if chosen_on else ""
    views = get("augmentation", {})
    loss = get("loss", "mse") + (f" (weight {get('sinkhorn_weight')})" if get("loss") == "sinkhorn" else "")
    return [
        [
            *_network(record),
            f"crops of {_size(get('input_hw'))}",
            f"sigma {_number(get('heatmap_sigma'))}",
            f"dropout {_number(get('dropout'))}",
            _start(record.card.get("initialised_from")),
        ],
        [f"trained on {' and '.join(data)}", f"validated on {chosen}{_last(get('val_set', ['?'])[0])} (boxes gt)"],
        [
            f"loss {loss}",
            f"{get('optimizer', 'adam').capitalize()} {_number(get('learning_rate'))} "
            f"to {_number(get('learning_rate_end'))}",
            str(get("schedule")),
            *_steps(record),
        ],
        [
            f"views: half body {_number(views.get('half_body'))}",
            f"scale {_number(views.get('scale'))}",
            f"rotation {_number(views.get('rotation_degrees'))}° "
            f"(probability {_number(views.get('rotation_probability'))})",
            f"flip {_number(views.get('flip'))}",
            *(f"{name} {_number(views[name])}" for name in BEYOND_RECIPE if views.get(name)),
            *_speed(record),
        ],
    ]


def _pretraining_words(record: RunRecord) -> list[list[str]]:
    get = record.settings.get
    of = " and ".join([_last(path) for path in get("images", ())] + [_last(one) for one, _ in get("annotations", ())])
    seen = record.card.get("data", {}).get("views_of")
    local = f"{get('local_views')} of {_size(get('local_hw'))}" if get("local_views") else "no local views"
    views = get("augmentation", {})
    return [
        [
            *_network(record),
            f"DINO with 2 views of {_size(get('global_hw'))}",
            local,
            f"{get('out_dim'):,} prototypes",
            f"head of {get('head_layers')} layers",
        ],
        [f"{seen:,} pictures of {of}" if seen else f"pictures of {of}"],
        [
            f"AdamW {_number(get('learning_rate'))} for a batch of 256, to {_number(get('learning_rate_end'))}",
            f"weight decay {_number(get('weight_decay'))} to {_number(get('weight_decay_end'))}",
            *_steps(record),
            f"teacher's momentum {_number(get('momentum'))} to 1",
            f"temperatures {_number(get('student_temperature'))} and {_number(get('teacher_temperature'))} to "
            f"{_number(get('teacher_temperature_end'))}",
        ],
        [
            f"views: areas {_range(views.get('global_scale'))} and {_range(views.get('local_scale'))}",
            *(f"{name} {_number(views.get(name))}" for name in ("flip", "jitter", "grey", "solarise")),
            *_speed(record),
        ],
    ]


def _network(record: RunRecord) -> list[str]:
    key = record.settings.get("variant", "")
    return [VARIANTS[key].label if key in VARIANTS else key, f"{record.settings.get('position')} positions"]


def _start(before: object) -> str:
    if not isinstance(before, dict):
        return "from random weights"
    return f"from {before.get('task') or before.get('format') or 'other weights'}"


def _steps(record: RunRecord) -> list[str]:
    get = record.settings.get
    warmup, norm = get("warmup_epochs"), get("clip_norm")
    return [
        f"warm-up of {_number(warmup)} epoch{'' if warmup == 1 else 's'}" if warmup else "no warm-up",
        f"batches of {get('batch_size')}",
        f"gradients clipped to {_number(norm)}" if norm else "no clipping",
        f"seed {get('seed')}",
    ]


def _speed(record: RunRecord) -> list[str]:
    """Precision, device and speed; the last ones that were logged."""
    precision = record.card.get("precision") or record.settings.get("precision")
    device = next((row["device"] for row in reversed(record.rows) if row.get("device")), record.settings.get("device"))
    rates = sorted(record.values("images_per_s")[1])
    return [f"{precision} on {device}", *([f"{rates[len(rates) // 2]:,.0f} images/s"] if rates else [])]


def _size(rows_columns: Sequence[int] | None) -> str:
    return "x".join(map(str, rows_columns or ()))


def _range(pair: Sequence[float] | None) -> str:
    return " to ".join(_number(value) for value in pair or ())


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "?"
    return f"{value:g}".replace("e-0", "e-")


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
