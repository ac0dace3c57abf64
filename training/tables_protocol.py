"""What all arms of a small table have in common: data, budgets, sizes, and further options of the commands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from model.variants import Position

DataSet = tuple[str, str]  # annotations and image folder


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What all arms have in common, and what decides their figures.

    `views` of persons in training, `pictures` in pre-training; whole batches of them are used. `pretrain_images`:
    folders to pre-train on; without them the boxes of the training persons. `train_options` and `pretrain_options` are
    given to the commands as they are.
    """

    train: tuple[DataSet, ...]
    val: DataSet
    views: int
    pictures: int
    pretrain_images: tuple[str, ...] = ()
    input_hw: tuple[int, int] = (96, 72)
    sigma: float = 1.5
    position: Position = "relative"
    batch_size: int = 16
    pretrain_batch_size: int = 32
    learning_rate: float = 5e-4
    device: str = "auto"
    train_options: str = ""
    pretrain_options: str = ""

    def __post_init__(self) -> None:
        for name, batch in (("views", self.batch_size), ("pictures", self.pretrain_batch_size)):
            if getattr(self, name) < batch or batch < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: at least one batch, {batch}")

    @property
    def steps(self) -> int:
        return self.views // self.batch_size

    @property
    def pretrain_steps(self) -> int:
        return self.pictures // self.pretrain_batch_size

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Protocol:
        """The inverse of `to_json`. Raises TypeError for unknown or missing fields."""
        return cls(**{name: _tuples(value) for name, value in stored.items()})

    def differences(self, other: Protocol) -> list[str]:
        """What is not the same, in words: this one's value, and the other's."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return [f"{name}: {mine} -> {theirs}" for name, mine, theirs in pairs if mine != theirs]


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
