"""The table of docs/operations.md, made from the settings: `python tests/settings_table.py` writes it anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- settings: python tests/settings_table.py -->\n", "<!-- end of settings -->\n"
# What depends on the machine.
SHOWN = {"checkpoint": "the bundled one", "cache_dir": "`~/.cache/btranspose`"}


def table() -> str:
    """A line for each setting: its flag, what it is when nothing is said, and what it means."""
    from service.settings import ServiceSettings

    lines = ["| flag | default | |", "|---|---|---|"]
    for name, field in ServiceSettings.model_fields.items():
        default = SHOWN.get(name) or ("" if field.default is None else f"`{field.default}`")
        words = [field.description] if field.description else []
        if get_origin(field.annotation) is Literal:
            words.append("one of " + ", ".join(get_args(field.annotation)))
        lines.append(f"| `--{name.replace('_', '-')}` | {default} | {'; '.join(words)} |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """The table that stands in the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}", encoding="utf-8")
