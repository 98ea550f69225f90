"""docker-compose.yml: valid, without secrets, and in step with what it deploys."""

import copy
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from redis import Redis

from composed import COMPOSE_FILE, REPOSITORY, module_of, mounts, read_compose, services
from gateway import settings as gateway_settings
from gateway.keys import Caller, KeyFile
from worker.settings import Settings, unknown_variables

SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
"""The compose specification's own, from github.com/compose-spec/compose-spec, Apache-2.0."""

OURS = sorted(name for name, service in services().items() if "build" in service)
IMAGES = sorted(name for name, service in services().items() if "build" not in service)
ALL = sorted(services())


def problems(compose: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(SCHEMA).iter_errors(compose)]


def seconds(duration: str) -> float:
    found = re.fullmatch(r"(\d+)s", duration)
    assert found, duration
    return float(found[1])


def test_the_file_is_what_the_specification_describes() -> None:
    assert problems(read_compose()) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "worker", "stop_grace_period"), 45),
        (("services", "worker", "comand"), ["worker"]),
        (("services", "redis", "healthcheck", "tests"), ["CMD", "true"]),
        (("services", "worker", "deploy", "resources", "reservations", "devices", 0, "capabilities"), "gpu"),
        (("volumes",), ["redis"]),
    ],
)
def test_a_mistake_is_found(path: tuple[str | int, ...], value: object) -> None:
    broken = copy.deepcopy(read_compose())
    at: Any = broken
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert problems(broken)


def test_the_services_of_each_profile() -> None:
    profiles: dict[str, set[str]] = {}
    for name, service in services().items():
        profiles.setdefault(",".join(service.get("profiles", ["always"])), set()).add(name)
    assert profiles == {
        "always": {"redis", "worker", "gateway", "dashboard"},
        "cpu": {"worker-cpu"},
        "monitoring": {"prometheus", "grafana"},
    }


@pytest.mark.parametrize("name", ALL)
def test_a_service_is_watched_restarted_and_confined(name: str) -> None:
    service = services()[name]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() >= {"memory", "pids"}
    assert "healthcheck" in service or name in ("worker", "worker-cpu")  # these have the image's


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_pinned_to_a_release(name: str) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", services()[name]["image"])


def test_the_deployed_server_is_the_one_of_the_tests(connection: Redis) -> None:
    [version] = re.findall(r":([\d.]+)", services()["redis"]["image"])
    assert connection.info("server")["valkey_version"] == version


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_open_to_the_network(name: str) -> None:
    ports = services()[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not (ports and name in ("redis", "worker", "worker-cpu"))


def test_every_secret_is_a_file_that_somebody_uses_and_none_stands_in_the_file(tmp_path: Path) -> None:
    compose = read_compose()
    used = {secret for service in services().values() for secret in service.get("secrets", [])}
    assert used == compose["secrets"].keys()
    text = COMPOSE_FILE.read_text()
    assert not re.search(r"://\w*:[^@/\s]+@", text)
    assert all(value.startswith("/run/secrets") for value in _passwords())
    made = _made_secrets(tmp_path)
    named = {Path(secret["file"]).name for secret in compose["secrets"].values()}
    assert named | {"gateway_key"} == made.keys()  # that one is for clients


def _passwords() -> list[str]:
    """Of variables that sound like a secret, what they are set to."""
    return [
        value
        for service in services().values()
        for key, value in service.get("environment", {}).items()
        if re.search("password|secret|login", key, re.IGNORECASE)
    ]


def _made_secrets(folder: Path) -> dict[str, str]:
    script = folder / "deploy" / "make-secrets.sh"
    script.parent.mkdir()
    script.write_bytes((REPOSITORY / "deploy" / "make-secrets.sh").read_bytes())
    subprocess.run(["sh", str(script)], check=True, timeout=30)
    return {path.name: path.read_text() for path in (script.parent / "secrets").iterdir()}


def test_secrets_are_random_kept_and_hidden_by_their_folder(tmp_path: Path) -> None:
    made = _made_secrets(tmp_path)
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[\w=-]{32}\n", made[name]) for name in made.keys() - {"gateway_keys"})
    caller = KeyFile(tmp_path / "deploy/secrets/gateway_keys").caller(made["gateway_key"].strip())
    assert caller == Caller("first", voices=True)
    folder = tmp_path / "deploy" / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}  # users of containers differ
    subprocess.run(["sh", str(folder.parent / "make-secrets.sh")], check=True, timeout=30)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "/deploy/secrets/" in ignored


@pytest.mark.parametrize("name", ALL)
def test_every_mounted_file_exists(name: str) -> None:
    sources = [source for source in mounts(services()[name]).values() if source.startswith(".")]
    assert [source for source in sources if not (REPOSITORY / source).exists()] == []


def test_every_dashboard_of_grafana_is_mounted_where_it_looks() -> None:
    seen = mounts(services()["grafana"])
    providers = list((REPOSITORY / "deploy/grafana/provisioning/dashboards").glob("*.y*ml"))
    found = [provider for file in providers for provider in yaml.safe_load(file.read_text())["providers"]]
    paths = [provider["options"]["path"] for provider in found]
    assert paths
    assert set(paths) <= seen.keys()


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    environment = services()[name]["environment"]
    assert all(isinstance(value, str) for value in environment.values())
    assert unknown_variables(environment) + gateway_settings.unknown_variables(environment) == []


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_parses(name: str) -> None:
    command = [sys.executable, "-m", module_of(services()[name]), *services()[name]["command"], "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["worker", "worker-cpu"])
def test_a_worker_may_drain_before_it_is_killed(name: str) -> None:
    service = services()[name]
    drain = float(service["environment"]["RWKV_TTS_DRAIN_TIMEOUT"])
    assert drain == Settings.model_fields["drain_timeout"].default
    assert seconds(service["stop_grace_period"]) >= drain + 10
    assert service["init"] is True


def test_workers_scale_and_only_the_one_of_the_gpu_reserves_it() -> None:
    for name in ("worker", "worker-cpu"):
        assert not {"container_name", "ports", "hostname"} & services()[name].keys()
    [device] = services()["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    environment = services()["worker"]["environment"]
    chosen = Settings(device=environment["RWKV_TTS_DEVICE"], devices=environment["RWKV_TTS_DEVICES"])
    assert (chosen.device, chosen.devices) == ("cuda", ("all",))
    assert "RWKV_TTS_DEVICES" not in services()["worker-cpu"]["environment"]
    assert "reservations" not in services()["worker-cpu"]["deploy"]["resources"]


def test_kernels_are_compiled_once_and_where_they_can_be_loaded_from() -> None:
    worker, image = services()["worker"], (REPOSITORY / "Dockerfile").read_text()
    [cache] = re.findall(r"TRITON_CACHE_DIR=(\S+)", image)
    [(target, source)] = [one for one in mounts(worker).items() if Path(cache).is_relative_to(one[0])]
    assert source in read_compose()["volumes"]
    assert f"install -d -o 10001 {target}" in image  # a new volume gets the owner of what it hides
    in_memory = [one.partition(":")[0] for one in worker["tmpfs"]]  # Docker mounts these noexec
    assert not any(Path(cache).is_relative_to(one) for one in in_memory)


@pytest.mark.parametrize("name", ALL)
def test_nothing_runs_from_memory_with_any_engine(name: str) -> None:
    assert [
        one for one in services()[name].get("tmpfs", []) if not one.endswith("noexec")
    ] == []  # Docker needs no word


def test_a_gpu_decodes_more_rows() -> None:
    rows = {name: services()[name]["environment"]["RWKV_TTS_MAX_ROWS"] for name in ("worker", "worker-cpu")}
    assert rows == {"worker": "512", "worker-cpu": "16"}


def test_models_are_where_a_name_finds_them() -> None:
    image = (REPOSITORY / "Dockerfile").read_text()
    [folder] = re.findall(r"RWKV_TTS_MODELS=(\S+)", image)
    assert f"install -d -o 10001 {folder}" in image
    assert all(mounts(services()[name])[folder] == "models" for name in ("worker", "worker-cpu"))


def test_every_role_of_the_users_file_has_a_secret() -> None:
    roles = re.findall(r"^user (\w+) on", (REPOSITORY / "deploy/redis/users.acl").read_text(), re.MULTILINE)
    assert {f"redis_{role}" for role in roles} < set(services()["redis"]["secrets"])


class _Overriding(yaml.SafeLoader):
    """Reads the tag with which an override file replaces a list."""


def _replaced(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


_Overriding.add_constructor("!override", _replaced)


def test_the_documented_override_chooses_gpus() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/operations.md").read_text(), re.DOTALL)
    override = yaml.load(text, _Overriding)  # noqa: S506 - a SafeLoader
    assert problems(override) == []
    [device] = override["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == ["1", "3"]


def test_prometheus_finds_workers_of_both_kinds_by_one_name() -> None:
    assert services()["worker-cpu"]["networks"]["default"]["aliases"] == ["worker"]


def test_the_image_has_every_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = {name.partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    copied = set(re.findall(r"^COPY (\w+) \1$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE))
    sent = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert packages | {"assets", "gateway"} == copied
    assert copied < sent
