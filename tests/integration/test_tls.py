"""Redis over TLS: a server with a certificate of a private CA, the roles' passwords, no plain port."""

import hashlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from rwkv_tts.client import TTSClient
from rwkv_tts.connection import connect
from waiting import until
from worker.cli.local import local_worker
from worker.settings import Settings

pytestmark = [pytest.mark.tls, pytest.mark.slow]

USERS = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
PASSWORD = "t1s/p@ss:word"  # noqa: S105 - of the test's own server
START_SECONDS = 60.0
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def sign(self, name: str, alternative: str) -> tuple[Path, Path]:
        """Make the certificate and the key of a server at ``alternative``, such as ``IP:127.0.0.1``."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        openssl("req", *NEW_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative}\n")
        authority = ("-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial")
        files = ("-in", str(request), "-out", str(certificate), "-extfile", str(extensions))
        openssl("x509", "-req", "-days", "2", *files, *authority)
        return certificate, key


def openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def make_authority(folder: Path) -> Authority:
    folder.mkdir()
    files = ("-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt"))
    openssl("req", "-x509", "-days", "2", *NEW_KEY, *files, "-subj", f"/CN=test CA {folder.name}")
    return Authority(folder)


@dataclass(frozen=True)
class TlsServer:
    port: int
    authority: Path

    def url(self, role: str, *, host: str = "127.0.0.1", authority: Path | None = None) -> str:
        options = urlencode({"ssl_ca_certs": str(authority or self.authority)})
        return f"rediss://{role}:{quote(PASSWORD, safe='')}@{host}:{self.port}/0?{options}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_users(path: Path) -> None:
    """The roles and one for Sentinels, all with the same password."""
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    lines = [line for line in USERS.read_text().splitlines() if line.startswith("user")]
    text = "\n".join(lines).replace("#" + "0" * 64, f"#{digest}")
    path.write_text(f"{text}\nuser sentinel on #{digest} allchannels +@all\n")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    for tool in ("redis-server", "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install redis-server openssl")
    folder = tmp_path_factory.mktemp("tls")
    authority = make_authority(folder / "ca")
    certificate, key = authority.sign("server", "IP:127.0.0.1")
    write_users(folder / "users.acl")
    server, log = TlsServer(free_port(), authority.certificate), folder / "redis.log"
    options = {
        "port": "0",
        "bind": "127.0.0.1",
        "tls-port": str(server.port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(authority.certificate),
        "tls-auth-clients": "no",
        "aclfile": str(folder / "users.acl"),
        "appendonly": "yes",
        "save": "",
        "dir": str(folder),
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    with log.open("wb") as sink:
        process = subprocess.Popen(["redis-server", *arguments], stdout=sink, stderr=subprocess.STDOUT)
    try:
        wait_until_up(server, process, log)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_up(server: TlsServer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None and "TLS" in log.read_text():
            pytest.skip("this redis-server is built without TLS; Debian's redis-server has it")
        try:
            Redis.from_url(server.url("worker")).ping()
        except RedisConnectionError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def test_a_job_ends_with_audio_over_tls(tls: TlsServer, random_model: Path) -> None:
    with local_worker(Settings(model=random_model, queue=("tls",)), tls.url("worker")) as worker:
        worker.wait_until_ready()
        client = TTSClient(Redis.from_url(tls.url("producer"), socket_timeout=60), "tls")
        done = client.result(client.submit("over an encrypted line", seed=1, format="flac"), timeout=60)
    assert done.audio.startswith(b"fLaC")
    assert worker.exit_code == 0


def refusal(url: str) -> str:
    """The one line with which a worker refuses to use ``url``."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", "worker", "--log-level", "TRACE", f"--redis={url}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    for spelling in (PASSWORD, quote(PASSWORD, safe="")):
        assert spelling not in done.stderr
    [line] = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def sentinel(tls: TlsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Sentinel with TLS that watches the server; a URL by way of it for the role of a worker."""
    folder, port = tmp_path_factory.mktemp("sentinel"), free_port()
    certificate, key = Authority(tls.authority.parent).sign("sentinel", "IP:127.0.0.1")
    lines = [
        *("port 0", f"tls-port {port}", f"dir {folder}", "tls-replication yes", "tls-auth-clients no"),
        *(f"tls-cert-file {certificate}", f"tls-key-file {key}", f"tls-ca-cert-file {tls.authority}"),
        *("user default off", f'user asker on ">{PASSWORD}" +@all &*'),
        *(f"sentinel monitor speech 127.0.0.1 {tls.port} 1", "sentinel auth-user speech sentinel"),
        f'sentinel auth-pass speech "{PASSWORD}"',
    ]
    path = folder / "sentinel.conf"
    path.write_text("\n".join(lines) + "\n")
    with (folder / "log").open("wb") as sink:
        command = ["redis-server", str(path), "--sentinel"]
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    options = urlencode({"ssl_ca_certs": str(tls.authority), "sentinel_username": "asker"})
    login = f"worker:{quote(PASSWORD, safe='')}"
    try:
        yield f"rediss+sentinel://{login}@127.0.0.1:{port}/speech/0?{options}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_sentinels_with_tls_and_logins_lead_to_a_master_with_both(
    sentinel: str, random_model: Path, tls: TlsServer
) -> None:
    until(lambda: is_up(sentinel))
    with local_worker(Settings(model=random_model, queue=("watched",)), sentinel) as worker:
        worker.wait_until_ready()
        client = TTSClient(sentinel.replace("//worker:", "//producer:"), "watched")
        done = client.result(client.submit("by way of a sentinel", seed=1, format="flac"), timeout=60)
    assert done.audio.startswith(b"fLaC")


def is_up(url: str) -> bool:
    with suppress(RedisConnectionError):
        return bool(connect(url, retry=Retry(NoBackoff(), 0)).ping())
    return False


def test_a_sentinel_of_another_authority_is_refused(sentinel: str, tls: TlsServer, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    url = sentinel.replace(quote(str(tls.authority), safe=""), quote(str(other.certificate), safe=""))
    assert "certificate verify failed" in refusal(url)


def test_a_certificate_of_another_authority_is_refused(tls: TlsServer, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    url = tls.url("worker", authority=other.certificate)
    assert "certificate verify failed" in refusal(url)
    with pytest.raises(RedisConnectionError, match="certificate verify failed"):
        TTSClient(url).submit("never sent")


def test_a_certificate_for_another_host_is_refused(tls: TlsServer) -> None:
    assert "certificate is not valid for 'localhost'" in refusal(tls.url("worker", host="localhost"))


def test_a_client_without_tls_gets_nowhere(tls: TlsServer) -> None:
    line = refusal(f"redis://worker:{quote(PASSWORD, safe='')}@127.0.0.1:{tls.port}")
    assert line.startswith("error: ")
