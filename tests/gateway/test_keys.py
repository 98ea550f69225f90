"""Keys are those of the file as it is now, however it is changed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.keys import new_key
from waiting import until

pytestmark = pytest.mark.slow


class Gate:
    """A gateway process and its file of keys, which is a link to a link, as a mounted secret of Kubernetes."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder, self.log = folder, folder / "log"
        self.file = folder / "keys"
        self.file.symlink_to("..data/keys")
        self._versions = 0

        self.key, line = new_key("first", voices=False)
        self.mount(line)
        environ = {**os.environ, "RWKV_TTS_REDIS": redis_url}
        command = [sys.executable, "-m", "gateway", "--port=0", "--queue=keyed", f"--keys={self.file}"]
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(command, env=environ, stderr=errors)
        until(lambda: "on http://" in self.log.read_text())
        found = re.search(r"on (http://\S+)", self.log.read_text())
        assert found
        self.url = found[1]
        until(self.is_up)

    def is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def mount(self, content: str) -> None:
        """Change the secret as Kubernetes does."""
        self._versions += 1
        version = self._folder / f"..{self._versions}"
        version.mkdir()
        (version / "keys").write_text(content + "\n")
        link = self._folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self._folder / "..data")

    def lets_in(self, key: str) -> bool:
        status = httpx.get(f"{self.url}/v1/voices", headers={"authorization": f"Bearer {key}"}).status_code
        assert status in (200, 401)
        return status == 200

    def takes(self, key: str, *, instead_of: str) -> None:
        """Return once one key counts, and see that another does not."""
        until(lambda: self.lets_in(key))
        assert not self.lets_in(instead_of)

    def warnings(self) -> list[str]:
        return [
            line.partition(" gateway ")[2] for line in self.log.read_text().splitlines() if " WARNING " in line
        ]


@pytest.fixture
def gate(tmp_path: Path, redis_url: str) -> Iterator[Gate]:
    gate = Gate(tmp_path, redis_url)
    yield gate
    gate.process.terminate()
    gate.process.wait(timeout=30)


def test_the_file_is_read_again_when_it_changes_and_what_is_broken_changes_nothing(gate: Gate) -> None:
    assert gate.lets_in(gate.key)
    second, line = new_key("second", voices=False)
    gate.mount(line)
    gate.takes(second, instead_of=gate.key)

    third, line = new_key("third", voices=False)
    gate.file.write_text(line + "\n")  # in place, as a file that Docker mounts can only change
    gate.takes(third, instead_of=second)

    gate.mount("a line that is no key")
    until(lambda: gate.lets_in(third) and len(gate.warnings()) == 1)
    gate.file.unlink()
    until(lambda: gate.lets_in(third) and len(gate.warnings()) == 2)
    assert gate.warnings() == [
        f"keys: {gate.file}, line 1: accepted: NAME SHA256, or NAME SHA256 voices; the keys from before stay",
        f"keys: {gate.file}: No such file or directory; accepted: a file with a line for each key; "
        "the keys from before stay",
    ]

    fourth, line = new_key("fourth", voices=False)
    swap = gate.file.with_name("swap")
    swap.write_text(line + "\n")
    swap.replace(gate.file)  # as editors write
    gate.takes(fourth, instead_of=third)
    assert len(gate.warnings()) == 2, "each is told once"
