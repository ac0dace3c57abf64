"""What the images are made of: `make audit` runs this after it has asked pip-audit about known vulnerabilities.

From each lock it writes deploy/sbom-VARIANT.cdx.json (CycloneDX) and deploy/licences.md. Licences are what the packages
declare of themselves, asked of pip, which reads metadata and installs nothing. Exits with 1 if a licence is not
permissive and not explained here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).resolve().parent
VARIANTS = ("cpu", "cuda")
PERMISSIVE = re.compile(r"MIT|BSD|Apache|PSF-2\.0|HPND|Zlib|0BSD|CC0|BSL-1\.0|LLVM|ISC", re.IGNORECASE)
NVIDIA = (
    "NVIDIA's own licence, which lets an application that needs them bring them along, in object form. An image of the "
    "variant cuda has them, so whoever publishes one agrees to that licence; the variant cpu has none."
)
EXPLAINED = {
    "certifi": "MPL-2.0, a copyleft by file: the list of certificates is passed on as it is.",
    "cuda-toolkit": "Declares nothing, and is a list of the nvidia-* packages without files of its own.",
    "opencv-python-headless": "Itself Apache-2.0. Its wheel has FFmpeg's libraries (LGPL-2.1) as files of their own, "
    "which can be replaced; the service decodes no video and does not call them.",
}


def pins(variant: str) -> dict[str, str]:
    """Names and versions of a lock."""
    text = (DEPLOY / f"requirements-{variant}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def declared(variant: str) -> dict[str, str]:
    """The licence that each package declares, by its name in the lock. Raises CalledProcessError if pip cannot tell.

    Of a variant with a torch of its own, pip must find that as `make lock` does.
    """
    environment = dict(os.environ)
    if variant == "cuda":
        environment.pop("PIP_FIND_LINKS", None)
        environment["PIP_CONFIG_FILE"] = os.devnull
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder) / "wanted.txt", Path(folder) / "report.json"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in pins(variant).items()))
        options = ("--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", str(report))
        command = (sys.executable, "-m", "pip", "install", *options, "--requirement", str(wanted))
        subprocess.run(command, env=environment, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {_canonical(one["metadata"]["name"]): _licence(one["metadata"]) for one in found}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(metadata: Mapping[str, Any]) -> str:
    """An SPDX expression if there is one, else the short field, else the classifiers."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    short = str(metadata.get("license") or "").strip()
    if short and len(short) < 60 and "\n" not in short:
        return short.removeprefix("OSI Approved :: ")
    told = [one.rpartition(" :: ")[2] for one in metadata.get("classifier", ()) if one.startswith("License ::")]
    return ", ".join(told) or "not declared"


def explanation(name: str, licence: str) -> str:
    """Why a licence is no obstacle; empty for a permissive one without more to say.

    Raises ValueError for one that is neither permissive nor explained.
    """
    if name in EXPLAINED:
        return EXPLAINED[name]
    if "NVIDIA" in licence:
        return NVIDIA
    parts = re.split(r" AND |, ", licence)
    if all(PERMISSIVE.search(part) and "GPL" not in part for part in parts):
        return ""
    raise ValueError(f"{name} has the licence {licence!r}; allowed: a permissive one, or one explained in {__file__}")


def licence_page(licences: Mapping[str, Mapping[str, str]]) -> str:
    """The text of licences.md."""
    versions = {name: version for variant in VARIANTS for name, version in pins(variant).items()}
    lines = [
        "# Licences of what the images contain",
        "",
        "As the packages declare them. Written by `make audit` from the locks. Below it, what is not permissive.",
        "",
        "| package | version | licence | in |",
        "|---|---|---|---|",
    ]
    texts: dict[str, list[str]] = {}
    for name in sorted(versions):
        within = [variant for variant in VARIANTS if name in licences[variant]]
        licence = licences[within[0]][name]
        lines.append(f"| {name} | {versions[name].partition('+')[0]} | {licence} | {', '.join(within)} |")
        if text := explanation(name, licence):
            texts.setdefault(text, []).append(name)
    lines += ["", "## Not permissive", ""]
    lines += [f"- **{', '.join(names)}**: {text}" for text, names in texts.items()]
    return "\n".join(lines) + "\n"


def bill_of_materials(variant: str, licences: Mapping[str, str]) -> dict[str, Any]:
    """CycloneDX: name, version, hashes and licence of every package; the same for the same lock."""
    made = subprocess.run(
        (
            *(sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "--sv", "1.6"),
            *("--pyproject", str(DEPLOY.parent / "pyproject.toml"), str(DEPLOY / f"requirements-{variant}.txt")),
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    bom: dict[str, Any] = json.loads(made.stdout)
    for tool in bom["metadata"].get("tools", {}).get("components", ()):
        tool.pop("externalReferences", None)
    for component in bom["components"]:
        # Which index had it says nothing of what it is: keep the hashes, not the address.
        (dist,) = component.pop("externalReferences")
        component["hashes"] = dist["hashes"]
        component.pop("description")
        component["licenses"] = [{"license": {"name": licences[_canonical(component["name"])]}}]
    return bom


def main() -> int:
    """Exit code: 1 if a licence is not explained."""
    argparse.ArgumentParser(description=str(__doc__).partition("\n")[0]).parse_args()
    licences = {variant: declared(variant) for variant in VARIANTS}
    try:
        page = licence_page(licences)
    except ValueError as error:
        print(error)
        return 1
    (DEPLOY / "licences.md").write_text(page, encoding="utf-8")
    for variant in VARIANTS:
        bom = bill_of_materials(variant, licences[variant])
        file = DEPLOY / f"sbom-{variant}.cdx.json"
        file.write_text(json.dumps(bom, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{file.name}: {len(bom['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
