"""What an operator can change while a worker runs, and how a change is checked."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]
RESET = "reset"
"""The one key of a change that is no value: whether it begins at the values of the start."""


class TuningError(ValueError):
    """A change that is not accepted; one line that names the value, the problem and what is accepted."""


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Tunable(BaseModel):
    """Settings that can change while the worker runs.

    A field's description is its help; ``accepted`` says which values it takes.
    """

    model_config = ConfigDict(frozen=True)

    token_chunk_size: int = Field(default=256, ge=1, description="prompt tokens that one step may prefill")
    max_rows: int = Field(default=16, ge=1, le=4096, description="utterances that decode at once")
    log_level: Annotated[LogLevel, BeforeValidator(_upper)] = Field(
        default="WARNING", description="TRACE, DEBUG, INFO, WARNING or ERROR"
    )


def changed(current: Tunable, start: Tunable, change: Mapping[str, Any]) -> Tunable:
    """The values after a change; ``current`` where it changes nothing.

    Args:
        current: The values now.
        start: Those that the worker was started with; its ``max_rows`` are all state slots that there are.
        change: Values by name, and perhaps ``reset``: begin at ``start``, not at ``current``.

    Raises:
        TuningError: Something in it is not accepted.
    """
    accepted = _accepted(start.max_rows)
    for name in change:
        if name not in accepted:
            raise TuningError(f"{name[:80]!r}: unknown value; accepted: {', '.join(accepted)}")
    reset, values = change.get(RESET, False), {name: value for name, value in change.items() if name != RESET}
    if not isinstance(reset, bool):
        raise _refused(RESET, reset, accepted)
    base = start if reset else current
    try:
        after = Tunable.model_validate({**base.model_dump(), **values}, strict=True)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise _refused(name, values[name], accepted) from None
    if after.max_rows > start.max_rows:
        raise _refused("max_rows", after.max_rows, accepted)
    return after


def _accepted(slots: int) -> dict[str, str]:
    return {
        "token_chunk_size": "a whole number from 1",
        "max_rows": f"1 to {slots}, the state slots of the worker",
        "log_level": "TRACE, DEBUG, INFO, WARNING or ERROR",
        RESET: "true or false",
    }


def _refused(name: str, value: object, accepted: Mapping[str, str]) -> TuningError:
    return TuningError(f"{name}: {str(value)[:80]!r}; accepted: {accepted[name]}")
