"""The moments in a job's life at which a worker can be told to die."""

from enum import StrEnum


class FaultPoint(StrEnum):
    """The values are what a worker process reads from its standard input, and the names of these faults."""

    CLAIMED = "claimed"
    WORKED = "worked"
    COMMITTED = "committed"
