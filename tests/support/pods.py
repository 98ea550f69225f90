"""The pods of ``deploy/kubernetes`` as processes of this machine: same commands, same environment, same probes.

Paths of containers become folders of this machine and their ports free ones of the loopback; nothing else changes.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from composed import REPOSITORY

KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
MODULES = {"rwkv-tts-worker": "worker.cli", "rwkv-tts-gateway": "gateway"}
"""What the entry point of an image runs."""

Resource = dict[str, Any]


def written(path: str) -> list[Resource]:
    """The resources of a file."""
    return [one for one in yaml.safe_load_all((KUBERNETES / path).read_text()) if one]


def of_the_base() -> list[Resource]:
    """All that the base names; its settings as the map that they become."""
    [base] = written("base/kustomization.yaml")
    [settings] = base["configMapGenerator"]
    values = dict(line.split("=", 1) for line in settings["literals"])
    generated = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": settings["name"]}, "data": values}
    return [generated, *(one for name in base["resources"] for one in written(f"base/{name}"))]


def rendered(overlay: str) -> list[Resource]:
    """What ``kubectl apply -k`` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the overlays are not put together")
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return list(yaml.safe_load_all(done.stdout))


def find(resources: list[Resource], kind: str, name: str) -> Resource:
    """The one resource of a kind and name; generated names have a hash at their end."""
    [found] = [
        one
        for one in resources
        if one["kind"] == kind and re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", one["metadata"]["name"])
    ]
    return found


def pod_of(deployment: Resource) -> Resource:
    spec: Resource = deployment["spec"]["template"]["spec"]
    return spec


def variables(
    resources: list[Resource], container: Resource, secrets: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """The environment of a container, as the kubelet makes it."""
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            name = source["configMapRef"]["name"]
            found |= find(resources, "ConfigMap", name)["data"]
        else:
            found |= secrets.get(source["secretRef"]["name"], {})
    for one in container["env"]:
        key = one.get("valueFrom", {}).get("secretKeyRef")
        found[one["name"]] = one["value"] if key is None else secrets[key["name"]][key["key"]]
    return found


class Pod:
    """The pod of a Deployment of the base.

    Args:
        name: Of the Deployment.
        folder: Gets secrets, volumes and the log.
        secrets: Contents of Secrets, by name.
        ports: What it listens on here, by the port of its container.
    """

    def __init__(
        self, name: str, folder: Path, secrets: Mapping[str, Mapping[str, str]], ports: Mapping[int, int]
    ) -> None:
        resources = of_the_base()
        self.spec = pod_of(find(resources, "Deployment", name))
        [self.container] = self.spec["containers"]
        self._name, self._folder, self._ports = name, folder / name, ports
        self._places = {"/app": REPOSITORY, **self._mounted(secrets)}
        self._variables = variables(resources, self.container, secrets)
        self.grace = float(self.spec["terminationGracePeriodSeconds"]) - self._pause()

    def _pause(self) -> float:
        """Seconds of the time to end that pass before SIGTERM."""
        before = self.container.get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})
        return float(before["sleep"]["seconds"])

    def _mounted(self, secrets: Mapping[str, Mapping[str, str]]) -> dict[str, Path]:
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        places = {}
        for mount in self.container["volumeMounts"]:
            place = places[mount["mountPath"]] = self._folder / mount["name"]
            place.mkdir(parents=True)
            secret = volumes[mount["name"]].get("secret")
            for item in secret["items"] if secret else ():
                (place / item["path"]).write_text(secrets[secret["secretName"]][item["key"]])
        return places

    def _here(self, text: str) -> str:
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - not here
        if text.isdecimal():
            return str(self._ports.get(int(text), text))
        return re.sub(f"^({'|'.join(self._places)})(?=$|/)", lambda found: str(self._places[found[1]]), text)

    @property
    def environment(self) -> dict[str, str]:
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("RWKV_TTS_", "REDIS"))}
        paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "client")])
        own = {key: self._here(value) for key, value in self._variables.items()}
        return {**keep, "PYTHONPATH": paths, "OMP_WAIT_POLICY": "passive", **own}

    @property
    def log(self) -> Path:
        return self._folder / "log"

    @contextmanager
    def run(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Run its container; what still runs at the end is killed."""
        words = [self._here(word) for word in self.container["args"]]
        command = [sys.executable, "-m", MODULES[self._name], *words]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def probe(self, name: str) -> int:
        """The status that a probe gets; 0 where nobody answers in its time."""
        probe = self.container[f"{name}Probe"]
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        where = self._ports[ports[probe["httpGet"]["port"]]]
        server = HTTPConnection("127.0.0.1", where, timeout=probe.get("timeoutSeconds", 1))
        try:
            server.request("GET", probe["httpGet"]["path"])
            return server.getresponse().status
        except OSError:
            return 0
        finally:
            server.close()
