"""What every request has at hand."""

from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection

from gateway.auth import Door
from gateway.ledger import Ledger
from gateway.limits import Turns
from gateway.pulse import Pulse
from gateway.settings import Settings
from rwkv_tts import AsyncTTSClient
from rwkv_tts.batches import BatchStore


@dataclass(frozen=True)
class Context:
    """A gateway at work.

    Attributes:
        settings: What the operator has set.
        client: Of the queue.
        door: Who may ask.
        turns: Of the callers.
        pulse: How the workers do.
        batches: Of this queue.
        ledger: Of all requests.
    """

    settings: Settings
    client: AsyncTTSClient
    door: Door
    turns: Turns
    pulse: Pulse
    batches: BatchStore
    ledger: Ledger


def context_of(request: HTTPConnection) -> Context:
    """That of a request."""
    return cast(Context, request.app.state.context)
