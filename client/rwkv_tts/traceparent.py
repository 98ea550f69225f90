"""The trace that a job belongs to, as W3C Trace Context has it: ``traceparent`` in its metadata."""

import re
from typing import Any

TRACEPARENT = "traceparent"
"""The header, and the name in a job's metadata."""

ACCEPTED = "accepted: the traceparent of W3C Trace Context"

_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def valid_traceparent(value: Any) -> str | None:
    """The value, if that is what it is."""
    return value if isinstance(value, str) and _VALID.fullmatch(value) else None
