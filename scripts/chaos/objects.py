"""The S3 server of a chaos run: s3rver, which keeps objects as files, so that it can be killed and started."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

BUCKET = "chaos"
PROGRAM = "s3rver"
START_SECONDS = 30.0


def why_no_store() -> str | None:
    """Why audio cannot go to a store on this machine; None when it can."""
    return None if shutil.which(PROGRAM) else f"not installed: {PROGRAM} (npm install -g {PROGRAM})"


class ObjectStore:
    """A process with a bucket on a port of this machine; ``start`` it.

    Attributes:
        url: Where results go, as the setting ``results``.
        variables: What leads there, for the environment of those who use it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"s3://{BUCKET}/results"
        self.variables = {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "S3RVER",
            "AWS_SECRET_ACCESS_KEY": "S3RVER",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        """Return when it answers."""
        arguments = ["-s", "-a", "127.0.0.1", "-p", str(self.port), "--configure-bucket", BUCKET]
        self._process = subprocess.Popen(
            [PROGRAM, "-d", str(self._folder), *arguments], stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise SystemExit(f"{PROGRAM} did not start")

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
