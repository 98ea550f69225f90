"""The engines that can decode, by name, and the threads that compute."""

from typing import Literal

EngineName = Literal["auto", "reference", "native", "int8", "cuda"]
Threads = int | Literal["auto"]


def read_threads(value: object) -> Threads:
    """What an operator has given.

    Raises:
        ValueError: It is neither a number from 1 on nor auto.
    """
    if value == "auto":
        return "auto"
    text = str(value)
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"{text!r}; accepted: auto, or a number from 1 on")
    return int(text)
