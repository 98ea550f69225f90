"""What some kinds of faults need, which not every machine has."""

from enum import Enum, auto


class Tool(Enum):
    """Processes whose clocks can be stepped; processes in network namespaces; a store of audio beside Redis."""

    CLOCKS = auto()
    NAMESPACES = auto()
    STORE = auto()
