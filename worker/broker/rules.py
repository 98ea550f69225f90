"""What an operator can set about how jobs are treated."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several names; as text, they are separated by commas."""


class Rules(BaseModel):
    """How a worker treats jobs."""

    model_config = ConfigDict(frozen=True)

    queue: Names = Field(default=("tts",), min_length=1, description="queue names, by priority")
    result_ttl: int = Field(
        default=3600, ge=-1, description="seconds that results and audio are kept; -1 for ever"
    )
    failure_ttl: int = Field(
        default=7 * 86400, ge=-1, description="the same of failed jobs; an hour at most if they bring a recording"
    )
    max_payload_bytes: int = Field(
        default=12 << 20, ge=1024, description="limit of a job's decoded data; references come in base64"
    )
    max_queue: int | None = Field(
        default=None, ge=1, description="jobs that may wait; submit refuses more; no limit when unset"
    )
    max_attempts: int = Field(
        default=3, ge=1, description="times that a job is started when workers die while they run it"
    )
    lease_timeout: float = Field(
        default=10.0, ge=0.5, description="a worker that is silent for so long is dead; its jobs go back"
    )
    drain_timeout: float = Field(
        default=25.0, ge=0.0, description="after SIGTERM, time for running jobs to finish before they go back"
    )
    outage_timeout: float = Field(
        default=300.0, ge=0.0, description="how long finished results wait for a Redis that is away"
    )
    commit_replicas: int = Field(
        default=0, ge=0, description="replicas of Redis that must have the end of a job before it counts as done"
    )
    watchdog_timeout: float = Field(
        default=300.0, ge=0.0, description="the process exits when nothing advances for so long; 0 is off"
    )
    callbacks: Names = Field(default=(), description="functions (module.name) that jobs may name as RQ callbacks")
    webhook_hosts: Names = Field(default=(), description="hosts that jobs may name in RQ webhooks")
