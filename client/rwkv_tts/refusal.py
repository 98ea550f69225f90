"""Why a request or a job comes to nothing, as a value that every stage passes on."""

import json
from dataclasses import dataclass
from enum import Enum


class Cause(str, Enum):
    """What a refusal comes from."""

    INVALID = "invalid"
    MODEL = "model"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    CALLBACK = "callback"
    INTERNAL = "internal"

    def __str__(self) -> str:
        return self.value

    @property
    def may_pass(self) -> bool:
        """Whether another try could end better: what is wrong with a request stays wrong."""
        return self is not Cause.INVALID


@dataclass(frozen=True)
class Refusal:
    """Why there is no result.

    Attributes:
        field: What it is about: a field of the request, or a part of the worker; "" where the message says all.
        cause: What it comes from.
        message: The problem, and what is accepted, without a line break.
    """

    field: str
    cause: Cause
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message

    def dump(self) -> str:
        """As JSON, for ``load``."""
        return json.dumps([self.field, self.cause.value, self.message])

    @classmethod
    def load(cls, text: str | bytes) -> "Refusal | None":
        """What ``dump`` wrote; None where somebody else did, or a version that knows more causes."""
        try:
            field, cause, message = json.loads(text)
            return cls(str(field), Cause(cause), str(message))
        except (ValueError, TypeError):
            return None


class RequestError(ValueError):
    """A request that cannot be served; one line that names the field, the problem and what is accepted.

    Attributes:
        refusal: The same as a value.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def invalid(field: str, message: str) -> RequestError:
    """The error for a request that is wrong in a field."""
    return RequestError(Refusal(field, Cause.INVALID, message))
