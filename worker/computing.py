"""``python -m worker.computing`` is the process that computes for a worker; ``worker.speech.apart`` starts it."""

import signal
import sys
from pathlib import Path
from typing import Any

from worker.compute.process import lines
from worker.compute.serve import Inbox, serve
from worker.ops import logs
from worker.speech.config import ModelError
from worker.speech.loading import open_model


def main(files: list[str]) -> None:
    """Load what the first message says and compute, until the lines end."""
    for number in (signal.SIGINT, signal.SIGTERM):  # what they mean is for the worker to say
        signal.signal(number, signal.SIG_IGN)
    rows, waves, voices = lines(files)
    _, told = rows.receive()
    inbox = Inbox(rows)
    logs.configure(told.pop("log_level"), as_json=told.pop("log_json"))
    try:
        speech = open_model(Path(told.pop("directory")), **told)
    except ModelError as error:
        rows.send("failed", str(error))
        return
    compute = speech.compute
    about: dict[str, Any] = {
        "description": compute.description,
        "sample_rate": compute.sample_rate,
        "able": compute.voice_encoder is not None,
    }
    rows.send("loaded", about, {"refusals": dict(speech.refusals), "sha256": speech.sha256})
    serve(compute, inbox, waves, voices, {"log_level": logs.set_level})


if __name__ == "__main__":
    main(sys.argv[1:])
