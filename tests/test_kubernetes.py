"""The manifests of deploy/kubernetes: they hold together, fit the service, and are what Kubernetes' schemas allow.

No cluster is asked. What needs a tool that is not here is skipped, and says which.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes import make_engine, make_service
from service.admission import Admission
from service.metrics import Metrics
from service.running import CLOSE_TIMEOUT_S
from service.settings import ServiceSettings

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
OVERLAYS = ("cpu", "gpu", "cpu-scaled", "gpu-scaled")
VERSIONS = ("1.31", "1.37")  # of Kubernetes
CUSTOM = ("ScaledObject", "ServiceMonitor")  # whose schemas are not Kubernetes' own
CLOSE_CONNECTIONS_S = 5  # HTTP's, of `service.http_server`

Manifest = dict[str, Any]


def read(name: str) -> Any:
    (content,) = yaml.safe_load_all((FOLDER / name).read_text())
    return content


def kustomize(folder: Path) -> list[Manifest]:
    """What would be applied."""
    tool = next((tool for tool in (["kustomize", "build"], ["kubectl", "kustomize"]) if shutil.which(tool[0])), None)
    if tool is None:
        pytest.skip("neither kustomize nor kubectl is on the PATH")
    built = subprocess.run([*tool, str(folder)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


@cache
def overlay(name: str) -> list[Manifest]:
    return kustomize(FOLDER / "overlays" / name)


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] == kind]


def settings_of(folder: str) -> dict[str, str]:
    """What an overlay, or the base, sets."""
    (generator,) = read(f"{folder}/kustomization.yaml")["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generator["literals"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_file_is_yaml_and_names_files_that_are_there(path):
    for content in yaml.safe_load_all(path.read_text()):
        if path.name == "kustomization.yaml":
            named = [*content.get("resources", ()), *content.get("components", ())]
            named += [patch["path"] for patch in content.get("patches", ()) if "path" in patch]
            assert all((path.parent / name).exists() for name in named)
        elif isinstance(content, dict):
            assert {"apiVersion", "kind", "metadata"} <= set(content)


@pytest.mark.parametrize("folder", ["cpu", "gpu"])
def test_the_settings_are_settings_of_the_service(folder, monkeypatch):
    for name in list(os.environ):
        if name.startswith("BTRANSPOSE_"):
            monkeypatch.delenv(name)
    given = settings_of("base") | settings_of(f"overlays/{folder}")
    names = {name.removeprefix("BTRANSPOSE_").lower() for name in given}
    assert names <= set(ServiceSettings.model_fields)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert ServiceSettings().host == "0.0.0.0"


def test_a_pod_is_given_the_time_to_finish_what_it_was_asked():
    pod = read("base/deployment.yaml")["spec"]["template"]["spec"]
    settings = settings_of("base")
    pause_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = max(float(settings[f"BTRANSPOSE_DRAIN_{name}_S"]) for name in ("DELAY", "TIMEOUT"))
    needed_s = pause_s + drain_s + CLOSE_TIMEOUT_S + CLOSE_CONNECTIONS_S
    assert needed_s < pod["terminationGracePeriodSeconds"]
    assert drain_s >= ServiceSettings.model_fields["timeout_s"].default, "no request takes longer"


def test_threads_are_as_many_as_the_processors_of_the_pod():
    (patch,) = read("overlays/cpu/kustomization.yaml")["patches"]
    (container,) = yaml.safe_load(patch["patch"])["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == settings_of("overlays/cpu")["BTRANSPOSE_THREADS"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_points_at_something_else_finds_it(name):
    built = overlay(name)
    (deployment,) = of_kind(built, "Deployment")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}

    def is_selected(selector: dict[str, str]) -> bool:
        return bool(selector) and selector.items() <= labels.items()

    assert is_selected(deployment["spec"]["selector"]["matchLabels"])
    services = of_kind(built, "Service")
    assert len(services) == 2
    for service in services:
        assert is_selected(service["spec"]["selector"])
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for kind, selector in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        (one,) = of_kind(built, kind)
        assert is_selected(one["spec"][selector]["matchLabels"])
    (policy,) = of_kind(built, "NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= ports
    (settings,) = of_kind(built, "ConfigMap")
    assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert {one["metadata"]["namespace"] for one in built if one["kind"] != "Namespace"} == {"btranspose"}
    for monitor in of_kind(built, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (watched,) = [one for one in services if wanted <= one["metadata"]["labels"].items()]
        assert {one["port"] for one in monitor["spec"]["endpoints"]} <= {
            one["name"] for one in watched["spec"]["ports"]
        }
    for scaled in of_kind(built, "ScaledObject"):
        assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert "replicas" not in deployment["spec"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_may_do_no_more_than_the_restricted_standard_allows(name):
    (deployment,) = of_kind(overlay(name), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all("emptyDir" in volume for volume in pod["volumes"])
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (settings,) = of_kind(overlay(name), "ConfigMap")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert settings["data"]["BTRANSPOSE_CACHE_DIR"] in mounts
    assert str(Path(settings["data"]["BTRANSPOSE_ADMIN_SOCKET"]).parent) in mounts
    assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if "gpu" in name else None)


def test_keys_come_from_a_secret(tmp_path):
    to = {name: os.path.relpath(FOLDER / name, tmp_path) for name in ("overlays/cpu", "components/api-keys")}
    wanted = {"resources": [to["overlays/cpu"]], "components": [to["components/api-keys"]]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    (deployment,) = of_kind(kustomize(tmp_path), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (variable,) = container["env"]
    assert variable["name"].removeprefix("BTRANSPOSE_").lower() in ServiceSettings.model_fields
    mount = next(one for one in container["volumeMounts"] if one["name"] == "api-keys")
    assert variable["value"] == f"{mount['mountPath']}/keys.txt"
    (secret,) = [one["secret"] for one in deployment["spec"]["template"]["spec"]["volumes"] if "secret" in one]
    assert secret == {"secretName": "btranspose-api-keys", "defaultMode": 0o440}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_schemas_of_kubernetes_allow_it(name):
    schemas = pytest.importorskip("kubernetes_validate", reason="needs pip install '.[kubernetes]'")
    built = [one for one in overlay(name) if one["kind"] not in CUSTOM]
    assert len(built) == 8
    for version in VERSIONS:
        for manifest in built:
            schemas.validate(manifest, version, strict=True)
    (deployment,) = of_kind(built, "Deployment")
    with pytest.raises(schemas.ValidationError):
        schemas.validate(deployment | {"spec": deployment["spec"] | {"replica": 2}}, VERSIONS[-1], strict=True)


def queries() -> list[str]:
    triggers = read("components/keda/scaledobject.yaml")["spec"]["triggers"]
    return [trigger["metadata"]["query"] for trigger in triggers]


def test_what_scales_asks_for_series_that_there_are():
    metrics, service = Metrics(), make_service(engine=make_engine())
    admission: Admission = service.admission
    metrics.watch(engine=service._engine, requests=lambda: admission.requests, dependencies=int, is_open=lambda: True)
    service.close(5.0)
    there = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    asked = set(re.findall(r"btranspose_\w+", " ".join(queries())))
    assert len(asked) == 4
    assert asked <= there
    monitor = read("components/prometheus/servicemonitor.yaml")
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name", "which is what makes job=btranspose"
    assert all('job="btranspose"' in query for query in queries())


# Two pods for ten minutes. Of each minute, one pod runs batches for 48 s, the other for 24 s; ten requests a minute of
# each wait for 0.3 s and 0.1 s.
BUSY = """
      - {series: 'btranspose_batch_duration_seconds_sum{job="btranspose",namespace="btranspose",pod="a"}', values: '0+48x10'}
      - {series: 'btranspose_batch_duration_seconds_sum{job="btranspose",namespace="btranspose",pod="b"}', values: '0+24x10'}
      - {series: 'btranspose_lanes{job="btranspose",namespace="btranspose",pod="a"}', values: '2x10'}
      - {series: 'btranspose_lanes{job="btranspose",namespace="btranspose",pod="b"}', values: '2x10'}
      - {series: 'btranspose_stage_duration_seconds_sum{job="btranspose",namespace="btranspose",stage="queue",pod="a"}', values: '0+3x10'}
      - {series: 'btranspose_stage_duration_seconds_sum{job="btranspose",namespace="btranspose",stage="queue",pod="b"}', values: '0+1x10'}
      - {series: 'btranspose_stage_duration_seconds_count{job="btranspose",namespace="btranspose",stage="queue",pod="a"}', values: '0+10x10'}
      - {series: 'btranspose_stage_duration_seconds_count{job="btranspose",namespace="btranspose",stage="queue",pod="b"}', values: '0+10x10'}
      - {series: 'btranspose_stage_duration_seconds_sum{job="btranspose",namespace="btranspose",stage="decode",pod="b"}', values: '0+500x10'}
"""  # noqa: E501
IDLE = re.sub(r"0\+\d+x", "0+0x", BUSY)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")
@pytest.mark.parametrize(
    ("series", "wait_s", "pods"), [(BUSY, 0.2, 0.6), (IDLE, 0, 0), ("[]", 0, 0)], ids=["busy", "idle", "no pods"]
)
def test_what_scales_is_the_mean_wait_and_the_work_in_pods_and_never_no_number(series, wait_s, pods, tmp_path):
    asked = [f"round({' '.join(query.split())}, 0.001)" for query in queries()]
    cases = "".join(
        f"      - expr: {query!r}\n        eval_time: 10m\n        exp_samples: [{{value: {value}}}]\n"
        for query, value in zip(asked, (wait_s, pods), strict=True)
    )
    (tmp_path / "tests.yaml").write_text(
        f"tests:\n  - interval: 1m\n    input_series: {series}\n    promql_expr_test:\n{cases}"
    )
    checked = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
