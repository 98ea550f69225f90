"""The engines that can decode, by name."""

from typing import Literal

EngineName = Literal["auto", "reference", "int8", "cuda"]
