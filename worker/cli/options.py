"""Command-line options that follow from models: settings, the fields of a request, values that can be tuned."""

from collections.abc import Callable, Collection
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rwkv_tts.schema import SynthesisRequest
from rwkv_tts.tuning import Tunable
from worker.cli.common import settings_from
from worker.settings import PREFIX, Settings

RedisOption = Annotated[
    str | None, typer.Option("--redis", help="Redis URL (env RWKV_TTS_REDIS or REDIS_URL)", show_default=False)
]
QueueOption = Annotated[str | None, typer.Option("--queue", help="queue of the workers (env RWKV_TTS_QUEUE)")]


def options_of(model: type[BaseModel], *, prefix: str = "", skip: Collection[str] = ()) -> list[Parameter]:
    """A command-line option for each field of a model; without a value it is None."""
    return [_option(name, field, prefix) for name, field in model.model_fields.items() if name not in skip]


def _option(name: str, field: FieldInfo, prefix: str) -> Parameter:
    accepted = (field.annotation, *get_args(field.annotation))
    kind: Any = next((kind for kind in (int, float, Path) if kind in accepted), str)
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    variable = f" (env {prefix}{name.upper()}, default {default})" if prefix else ""
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, help=(field.description or "") + variable, show_default=False)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting; it gets ``settings`` in their place."""
    options = options_of(Settings, prefix=PREFIX)

    @wraps(command)
    def run(**given: Any) -> None:
        command(settings=settings_from({option.name: given.pop(option.name) for option in options}), **given)

    return _with_parameters(run, command, "settings", options)


def with_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every field of a request; it gets ``fields``, those that were set."""
    options = options_of(SynthesisRequest, skip=("text", "metadata", "reference", "use_transcript"))

    @wraps(command)
    def run(**given: Any) -> None:
        values = {option.name: given.pop(option.name) for option in options}
        command(fields={name: value for name, value in values.items() if value is not None}, **given)

    return _with_parameters(run, command, "fields", options)


def with_values(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every value that can be tuned; it gets ``values``, those that were set."""
    options = options_of(Tunable)

    @wraps(command)
    def run(**given: Any) -> None:
        values = {option.name: given.pop(option.name) for option in options}
        command(values={name: value for name, value in values.items() if value is not None}, **given)

    return _with_parameters(run, command, "values", options)


def _with_parameters(
    run: Callable[..., None], command: Callable[..., None], replaced: str, options: list[Parameter]
) -> Callable[..., None]:
    """Show ``run`` to typer with the command's parameters, one of them replaced by options."""
    own = [parameter for name, parameter in signature(command).parameters.items() if name != replaced]
    run.__signature__ = Signature(own + options)  # type: ignore[attr-defined]
    return run
