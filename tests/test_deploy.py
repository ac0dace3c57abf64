"""What is deployed holds together: compose file, locks, health check. Nothing is built or started here."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "btranspose.rules.yml"

sys.path.append(str(DEPLOY))  # no package: its scripts import each other by name
healthcheck = importlib.import_module("healthcheck")

needs_compose = pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not on the PATH")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def compose() -> dict[str, Any]:
    return read_yaml(ROOT / "docker-compose.yml")


@needs_compose
@pytest.mark.parametrize("profiles", ["gpu", "cpu", "gpu,dcgm"])
def test_docker_compose_is_content(profiles):
    command = ["docker-compose", "config", "--quiet"]
    environment = {"PATH": "/usr/bin:/bin", "COMPOSE_PROFILES": profiles}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_compose_starts_the_gpu_service_unless_told_otherwise_and_never_both():
    services = compose()["services"]
    assert "COMPOSE_PROFILES=gpu\n" in (ROOT / ".env").read_text(encoding="utf-8")
    assert {name: one["profiles"] for name, one in services.items() if "profiles" in one} == {
        "pose": ["gpu"],
        "pose-cpu": ["cpu"],
        "dcgm": ["dcgm"],
    }


@pytest.mark.parametrize("name", compose()["services"])
def test_a_container_is_restarted_limited_and_shut_in(name):
    service = compose()["services"][name]
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert "max-size" in service["logging"]["options"]
    assert all(
        port.startswith(("${BTRANSPOSE_BIND:-127.0.0.1}", "${MONITORING_BIND:-127.0.0.1}"))
        for port in service.get("ports", [])
    )
    if name != "dcgm":  # it is run as NVIDIA says
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_images_of_others_are_of_one_version():
    images = {name: service["image"] for name, service in compose()["services"].items() if "build" not in service}
    assert images
    for image in images.values():
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/-]+:v?\d+\.\d+\.\d+[\w.-]*\}", image)


@pytest.mark.parametrize("name", ["pose", "pose-cpu"])
def test_compose_sets_only_what_the_service_knows_and_waits_for_it_to_stop(name):
    service = compose()["services"][name]
    ours = {key.removeprefix("BTRANSPOSE_").lower() for key in service["environment"] if key.startswith("BTRANSPOSE_")}
    assert ours <= set(ServiceSettings.model_fields)
    assert int(service["stop_grace_period"].removesuffix("s")) > ServiceSettings.model_fields["drain_timeout_s"].default


def test_prometheus_asks_the_name_that_either_service_has():
    jobs = {job["job_name"]: job for job in read_yaml(DEPLOY / "prometheus/prometheus.yml")["scrape_configs"]}
    (target,) = jobs["btranspose"]["static_configs"][0]["targets"]
    assert target == "pose:8000"
    for name in ("pose", "pose-cpu"):
        assert compose()["services"][name]["networks"]["default"]["aliases"] == ["pose"]


def test_the_memory_alert_is_below_the_limit():
    (rule,) = [
        rule for group in read_yaml(RULES)["groups"] for rule in group["rules"] if rule["alert"] == "BTransposeMemory"
    ]
    gib = int(re.search(r"> (\d+) \* 1024 \^ 3", rule["expr"])[1])
    assert compose()["services"]["pose"]["deploy"]["resources"]["limits"]["memory"] == "${BTRANSPOSE_MEMORY:-8g}"
    assert gib < 8


def pins(variant: str) -> dict[str, str]:
    text = (DEPLOY / f"requirements-{variant}.txt").read_text(encoding="utf-8")
    assert not re.search(r"^-|://|index-url", text, re.MULTILINE)
    entries = re.split(r"\n(?=[a-z])", text.partition("\n#\n")[2] or text)
    found = {}
    for entry in entries:
        if pinned := re.match(r"([\w.-]+)==(\S+)", entry):
            assert "--hash=sha256:" in entry, entry
            found[pinned[1]] = pinned[2]
    return found


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_a_lock_has_every_dependency_and_the_torch_of_its_variant(variant):
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("dependencies = [")[2].partition("\n]")[0]
    needed = {name.lower() for name in re.findall(r'^    "([\w-]+)', project, re.MULTILINE)}
    locked = pins(variant)
    assert needed - set(locked) == set()
    assert locked["torch"] == {"cpu": "2.13.0+cpu", "cuda": "2.13.0"}[variant]
    assert any(name.startswith("nvidia-") for name in locked) == (variant == "cuda")


def test_both_images_have_the_same_versions_but_for_cuda():
    cpu, cuda = pins("cpu"), pins("cuda")
    assert {name for name in cpu if cpu[name] != cuda.get(name)} == {"torch"}
    assert len(cpu) > 40


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_a_bill_of_materials_and_the_licences_are_those_of_the_lock(variant):
    bom = json.loads((DEPLOY / f"sbom-{variant}.cdx.json").read_text(encoding="utf-8"))
    assert {one["name"]: one["version"] for one in bom["components"]} == pins(variant)
    assert all(one["hashes"] and one["licenses"] for one in bom["components"])
    page = (DEPLOY / "licences.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| ([\w-]+) \| (\S+) \|.*\|.*\b{variant}\b", page, re.MULTILINE)
    assert dict(rows) == {name: version.partition("+")[0] for name, version in pins(variant).items()}


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_is_that_of_readyz(status, code, capsys, monkeypatch):
    monkeypatch.setattr(healthcheck, "TIMEOUT_S", 60.0)  # how fast this machine is, is not asked
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"status": "starting"}')

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        environment = {"BTRANSPOSE_HOST": "0.0.0.0", "BTRANSPOSE_HTTP_PORT": str(server.server_port)}
        assert healthcheck.main(environment) == code
        answering.join()
    assert asked == ["/readyz"]
    assert capsys.readouterr().out == ("" if code == 0 else 'not ready: 503 {"status": "starting"}\n')


def test_the_health_check_says_what_it_could_not_reach(capsys):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    assert healthcheck.main({"BTRANSPOSE_HTTP_PORT": str(port)}) == 1
    assert "refused" in capsys.readouterr().out


def test_the_health_check_speaks_tls_where_the_service_does():
    asking = healthcheck.connection({"BTRANSPOSE_TLS_CERT": "cert.pem", "BTRANSPOSE_HOST": "::"})
    assert (type(asking).__name__, asking.host, asking.port) == ("HTTPSConnection", "::1", 8000)
