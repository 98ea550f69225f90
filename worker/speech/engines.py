"""The engines that can decode, by name."""

from typing import Literal

EngineName = Literal["auto", "reference", "native", "int8", "cuda"]
