"""deploy/kubernetes: what the published schemas describe, without secrets, and in step with what it deploys."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from composed import DOCKERFILE, REPOSITORY, services
from gateway import settings as gateway_settings
from pods import KUBERNETES, OVERLAYS, Resource, find, of_the_base, pod_of, rendered, variables, written
from worker.settings import Settings, unknown_variables

VERSION = "1.30"
"""Of Kubernetes, the oldest: there a container may sleep before it is ended (`preStop`)."""

SECRETS = {
    "redis-worker": {"url": "redis://worker@redis:6379/0", "password": "a"},
    "redis-voices": {"url": "redis://voices@redis:6379/0", "password": "b"},
    "gateway-keys": {"keys": "c"},
}
DEPLOYMENTS = ["rwkv-tts-gateway", "rwkv-tts-worker"]
KEDA = "@kubernetes-models/keda"
CHECK = f"""
import {{ScaledObject}} from "{KEDA}/keda.sh/v1alpha1/ScaledObject";
new ScaledObject(JSON.parse(process.argv[1])).validate();
"""


def problem(resource: Resource, version: str = VERSION) -> str:
    """What the schema of its kind has against a resource."""
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{resource['kind']}: {error}"
    return ""


def test_every_whole_file_is_what_the_schemas_describe() -> None:
    for one in (*of_the_base(), *written("fetch-model.yaml"), *written("overlays/gpu/volumes.yaml")):
        assert problem(one) == ""


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", [VERSION, kubernetes_validate.latest_version()])
def test_an_overlay_is_what_the_schemas_describe(overlay: str, version: str) -> None:
    for one in rendered(overlay):
        assert one["kind"] == "ScaledObject" or problem(one, version) == ""
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "rwkv-tts"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "template", "spec", "terminationGracePeriodSeconds"), "45"),
        (("spec", "template", "spec", "enableServiceLink"), False),
        (("spec", "template", "spec", "containers", 0, "readinessProbe", "httpGet", "route"), "/readyz"),
        (("spec", "template", "spec", "containers", 0, "env", 0, "valueFrom"), "redis"),
        (("spec", "selector"), []),
    ],
)
def test_a_mistake_is_found(path: tuple[str | int, ...], value: object) -> None:
    broken = copy.deepcopy(find(of_the_base(), "Deployment", "rwkv-tts-worker"))
    at: Any = broken
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert problem(broken)


def keda_finds(scaled: Resource) -> str:
    """What the validator made of KEDA's own types says."""
    folder = Path(sys.prefix) / "keda"
    if not (folder / "node_modules" / KEDA).is_dir():
        pytest.skip(f"{KEDA} is not installed: make .venv/keda")
    command = ["node", "--input-type=module", "--eval", CHECK, json.dumps(scaled)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stderr if done.returncode else ""


def test_the_scaler_is_what_keda_describes() -> None:
    [scaled] = written("keda/scaledobject.yaml")
    assert keda_finds(scaled) == ""
    scaled["spec"]["triggers"][0]["metadata"]["threshold"] = 30
    assert "threshold must be string" in keda_finds(scaled)


def test_the_scaler_asks_for_the_estimated_wait_of_the_queue_that_the_workers_serve() -> None:
    """Of KEDA's fields, those that its types let anybody misspell."""
    [scaled] = written("keda/scaledobject.yaml")
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert scaled["spec"].keys() == {
        *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod"),
        *("triggers", "advanced"),
    }
    worker = find(of_the_base(), "Deployment", scaled["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in worker["spec"]  # or each `apply` would undo what KEDA has done
    [trigger] = scaled["spec"]["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "Value")  # of the queue, not of each worker
    queue = find(of_the_base(), "ConfigMap", "settings")["data"]["RWKV_TTS_QUEUE"]
    assert trigger["metadata"]["query"] == f'max(rwkv_tts_queue_wait_seconds{{queue="{queue}"}})'
    assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold", "ignoreNullValues"}


def environment(resources: list[Resource], name: str) -> dict[str, str]:
    [container] = pod_of(find(resources, "Deployment", name))["containers"]
    return variables(resources, container, SECRETS)


def assert_settings_exist(resources: list[Resource]) -> None:
    worker, gateway = (environment(resources, f"rwkv-tts-{name}") for name in ("worker", "gateway"))
    assert unknown_variables(worker) == []
    assert gateway_settings.unknown_variables(gateway) == []
    shared = {"RWKV_TTS_REDIS", "RWKV_TTS_REDIS_PASSWORD_FILE", "RWKV_TTS_QUEUE", "RWKV_TTS_RESULTS"}
    assert {name for name in gateway if not name.startswith(gateway_settings.PREFIX)} == shared
    for name, value in worker.items():
        field = name.removeprefix("RWKV_TTS_").lower()
        Settings.model_validate({"metrics_port": 9100, field: value})


def test_settings_are_those_that_there_are() -> None:
    assert_settings_exist(of_the_base())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_changes_what_it_is_for_and_nothing_else(overlay: str) -> None:
    base, ours = of_the_base(), rendered(overlay)
    assert_settings_exist(ours)
    worker = {"RWKV_TTS_DEVICE": "cpu"}
    if overlay == "gpu":
        compose = services()["worker"]["environment"]
        worker = {name: compose[name] for name in ("RWKV_TTS_DEVICE", "RWKV_TTS_DEVICES", "RWKV_TTS_MAX_ROWS")}
    changes = {"rwkv-tts-worker": worker, "rwkv-tts-gateway": {}}
    for name, changed in changes.items():
        assert environment(ours, name) == environment(base, name) | changed
        mine, theirs = pod_of(find(ours, "Deployment", name)), pod_of(find(base, "Deployment", name))
        [container], [plain] = mine["containers"], theirs["containers"]
        for part in ("args", "ports", "securityContext", "startupProbe", "livenessProbe", "readinessProbe"):
            assert container[part] == plain[part]
        assert mine["terminationGracePeriodSeconds"] == theirs["terminationGracePeriodSeconds"]
        assert container["resources"]["limits"]["memory"]
    [container] = pod_of(find(ours, "Deployment", "rwkv-tts-worker"))["containers"]
    assert container["image"] == {"gpu": "rwkv-tts-worker:cuda", "cpu": "rwkv-tts-worker:cpu"}[overlay]
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay == "gpu")


def test_kernels_lie_where_the_image_has_them() -> None:
    [patch] = written("overlays/gpu/worker.yaml")
    [container] = pod_of(patch)["containers"]
    [cache] = re.findall(r"TRITON_CACHE_DIR=(\S+)", DOCKERFILE.read_text())
    assert any(cache.startswith(f"{mount['mountPath']}/") for mount in container["volumeMounts"])
    claims = {one["metadata"]["name"] for one in written("overlays/gpu/volumes.yaml")}
    assert {volume["persistentVolumeClaim"]["claimName"] for volume in pod_of(patch)["volumes"]} == claims


PODS = [find(of_the_base(), "Deployment", name) for name in DEPLOYMENTS] + written("fetch-model.yaml")


@pytest.mark.parametrize("resource", PODS, ids=lambda one: one["kind"])
def test_a_pod_may_do_nothing_that_it_need_not(resource: Resource) -> None:
    pod = pod_of(resource)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    [user] = re.findall(r"useradd --uid (\d+)", DOCKERFILE.read_text())
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == int(user)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_ending_takes_no_longer_than_it_may() -> None:
    """As Compose gives it, and what passes before SIGTERM."""
    base = of_the_base()
    for name in ("worker", "gateway"):
        pod = pod_of(find(base, "Deployment", f"rwkv-tts-{name}"))
        [container] = pod["containers"]
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = services()[name]["stop_grace_period"]
        assert f"{pod['terminationGracePeriodSeconds'] - pause}s" == grace
    drain = float(environment(base, "rwkv-tts-worker")["RWKV_TTS_DRAIN_TIMEOUT"])
    assert drain + 15 <= pod_of(find(base, "Deployment", "rwkv-tts-worker"))["terminationGracePeriodSeconds"]


def test_services_budgets_and_policies_find_their_pods() -> None:
    base = of_the_base()
    for name in DEPLOYMENTS:
        deployment = find(base, "Deployment", name)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert find(base, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == labels
        policy = find(base, "NetworkPolicy", name)["spec"]
        assert policy["podSelector"]["matchLabels"] == labels
        [container] = pod_of(deployment)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports.keys()
    service = find(base, "Service", "rwkv-tts-gateway")["spec"]
    gateway = find(base, "Deployment", "rwkv-tts-gateway")
    assert service["selector"] == gateway["spec"]["template"]["metadata"]["labels"]
    assert [port["targetPort"] for port in service["ports"]] == ["http"]


def test_no_password_is_in_a_file_and_the_page_makes_each_secret() -> None:
    text = "".join(path.read_text() for path in KUBERNETES.rglob("*.yaml"))
    assert not re.search(r"://\w*:[^@/\s]+@", text)
    page = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    for name, values in SECRETS.items():
        command = re.search(rf"create secret generic {name} (.*?)\n(?! )", page, re.DOTALL)
        assert command is not None, name
        keys = re.findall(r"--from-(?:literal|file)=(\w+)=", command[1])
        assert set(keys) == values.keys()
