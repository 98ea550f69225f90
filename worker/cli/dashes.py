"""A command whose text may begin with a dash, as a list's item or a temperature does."""

import re
from typing import Any

from typer.core import TyperCommand

_OPTION = re.compile(r"-[a-zA-Z]\S*|--[a-zA-Z][\w-]*(=.*)?", re.DOTALL)
"""What else begins with a dash is text."""

_WITHOUT_VALUE = re.compile(r"-[a-zA-Z]|--[^=]*")
"""An option that has none in the same argument."""


class TextCommand(TyperCommand):
    """Takes for options what looks like one; everything else is text."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = {name for param in self.params if getattr(param, "is_flag", False) for name in param.opts}
        return super().parse_args(ctx, texts_last(args, {*flags, *ctx.help_option_names}))


def texts_last(args: list[str], flags: set[str]) -> list[str]:
    """Arguments with those last, after ``--``, that begin with a dash and are text.

    Args:
        args: As they were given.
        flags: Options without a value.
    """
    before: list[str] = []
    texts: list[str] = []
    valued = False  # whether this is the value of the option before
    for place, arg in enumerate(args):
        if arg == "--" and not valued:
            texts += args[place + 1 :]
            break
        option = _OPTION.fullmatch(arg) is not None
        text = not valued and not option and arg.startswith("-")
        (texts if text else before).append(arg)
        valued = not valued and option and arg not in flags and _WITHOUT_VALUE.fullmatch(arg) is not None
    return [*before, "--", *texts]
