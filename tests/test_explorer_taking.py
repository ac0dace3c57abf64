"""What can be taken along from the explorer: curl commands that work, JSON, the paper's figure."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from browsers import (  # noqa: F401 (fixtures)
    PHOTOGRAPH,
    WIDTH,
    choose,
    choose_joint,
    chromium_fixture,
    downloaded,
    drag,
    explorer_fixture,
    is_png,
    on_picture,
    panel,
    running_site_fixture,
    shared_visit_fixture,
    shown_fixture,
    site_fixture,
    status,
    visit_fixture,
)


def copied(explorer, button):
    explorer.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button.click()
    status(explorer, "Copied")
    return explorer.evaluate("() => navigator.clipboard.readText()")


def test_without_tls_there_is_another_way_to_copy(explorer):
    choose(explorer, PHOTOGRAPH)
    explorer.evaluate(
        """() => {
          Object.defineProperty(navigator, 'clipboard', { value: undefined });
          document.addEventListener('copy', () => { window.copied = document.activeElement.value; });
        }"""
    )
    explorer.locator("#copy-pose").click()
    status(explorer, "Copied")
    assert explorer.evaluate("() => window.copied").startswith("curl -F image=@photo.png http://")
    assert explorer.evaluate("() => document.activeElement.id") == "copy-pose"


def run_command(command, folder):
    if shutil.which("curl") is None or shutil.which("sh") is None:
        pytest.skip("there is no curl to run the commands with")
    done = subprocess.run(
        ["sh", "-c", command.replace("curl ", "curl -sS --fail-with-body ", 1)],
        cwd=folder,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("name", ["photo.png", 'it\'s; a "person", 1.png'])
def test_the_copied_commands_give_what_is_shown(explorer, site, tmp_path, name):
    choose(explorer, PHOTOGRAPH, name)
    drag(explorer, on_picture(explorer, 50, 40, WIDTH), on_picture(explorer, 250, 390, WIDTH))
    explorer.wait_for_function("() => /score/.test(document.querySelector('#people').textContent)")
    choose_joint(explorer)
    (tmp_path / name).write_bytes(PHOTOGRAPH)
    command = copied(explorer, explorer.locator("#copy-pose"))
    assert site.address in command
    _, answer = downloaded(explorer, explorer.get_by_role("button", name="Poses as JSON"))
    assert json.loads(run_command(command, tmp_path)) == answer
    explorer.locator("#threshold").fill("0.5")
    panel(explorer, "encoder").locator(".head").fill("2")
    explorer.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    shown = site.maps[-1]
    run_command(copied(explorer, panel(explorer, "encoder").locator(".copy")), tmp_path)
    asked = site.maps[-1]
    assert asked.as_picture
    assert asked.threshold == 0.5
    for part in ("level", "layer", "head", "keypoint", "mode", "box_xywh", "image"):
        assert getattr(asked, part) == getattr(shown, part)
    assert is_png(tmp_path / "left_wrist-encoder-layer3-head2-dependency.png")


def test_a_map_is_saved_as_it_came(shown):
    name, found = downloaded(shown, panel(shown, "mhsa").get_by_role("button", name="JSON"))
    assert name == "left_wrist-mhsa-layer2-mean-dependency.json"
    assert (found["level"], found["keypoint"], found["head"]) == ("mhsa", "left_wrist", "mean")
    assert np.sum(found["attention"]) == pytest.approx(1, abs=1e-3)


def test_the_papers_figure_opens_and_can_be_saved(shown, site):
    panel(shown, "encoder").locator(".figure").click()
    figure = shown.get_by_role("dialog")
    figure.wait_for()
    assert figure.get_by_role("heading").inner_text() == "All joints, Transformer encoder"
    shown.wait_for_function("() => document.getElementById('figure-image').naturalWidth > 1000")
    assert (site.maps[-1].keypoint, site.maps[-1].level, site.maps[-1].as_picture) == (None, "encoder", True)
    assert (site.maps[-1].layer, site.maps[-1].head) == (None, None), "a row for each layer"
    with shown.expect_download() as waiting:
        figure.get_by_role("link", name="Save PNG").click()
    assert waiting.value.suggested_filename == "figure-encoder-dependency.png"
    assert is_png(waiting.value.path())
    shown.keyboard.press("Escape")
    figure.wait_for(state="hidden")
