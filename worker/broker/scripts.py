"""The scripts that Redis runs, by name; the head of each file says what it takes and returns."""

from functools import cache
from importlib.resources import files


@cache
def lua(name: str) -> str:
    """The text of ``lua/<name>.lua``."""
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
