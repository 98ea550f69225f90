"""Command-line options that follow from models: settings, the fields of a request, values that can be tuned."""

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.settings import PREFIX as GATEWAY_PREFIX
from gateway.settings import Settings as GatewaySettings
from rwkv_tts.schema import SynthesisRequest
from rwkv_tts.tuning import Tunable
from worker.cli.common import gateway_from, settings_from
from worker.settings import PREFIX, Settings

RedisOption = Annotated[
    str | None, typer.Option("--redis", help="Redis URL (env RWKV_TTS_REDIS or REDIS_URL)", show_default=False)
]
_OF_BOTH = ("redis", "redis_password_file", "queue", "results", "aliases", "metrics_host", "metrics_port")
"""Settings of a gateway that are named as those of the worker beside it, or too long for a command line."""

QueueOption = Annotated[str | None, typer.Option("--queue", help="queue of the workers (env RWKV_TTS_QUEUE)")]


def options_of(model: type[BaseModel], *, prefix: str = "", skip: Collection[str] = ()) -> list[Parameter]:
    """A command-line option for each field of a model; without a value it is None."""
    return [_option(name, field, prefix) for name, field in model.model_fields.items() if name not in skip]


def _option(name: str, field: FieldInfo, prefix: str) -> Parameter:
    accepted = (field.annotation, *get_args(field.annotation))
    kinds = (int, float, Path) if prefix else (bool, int, float, Path)  # a setting's "false" is a value
    words = any(get_origin(one) is Literal for one in accepted)
    kind: Any = str if words else next((kind for kind in kinds if kind in accepted), str)
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    variable = f" (env {prefix}{name.upper()}, default {default})" if prefix else ""
    flag = f"--{name.replace('_', '-')}"
    flag = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    option = typer.Option(flag, help=(field.description or "") + variable, show_default=False)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting; it gets ``settings`` in their place."""
    return _with_options(command, "settings", options_of(Settings, prefix=PREFIX), settings_from)


def with_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting of a gateway of its own; it gets ``gateway`` in their place."""
    options = options_of(GatewaySettings, prefix=GATEWAY_PREFIX, skip=_OF_BOTH)
    return _with_options(command, "gateway", options, gateway_from)


def with_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every field of a request; it gets ``fields``, those that were set."""
    options = options_of(SynthesisRequest, skip=("text", "metadata", "reference", "use_transcript"))
    return _with_options(command, "fields", options, _set)


def with_values(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every value that can be tuned; it gets ``values``, those that were set."""
    return _with_options(command, "values", options_of(Tunable), _set)


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _with_options(
    command: Callable[..., None], name: str, options: list[Parameter], make: Callable[[dict[str, Any]], object]
) -> Callable[..., None]:
    """Show a command to typer with options in place of one parameter, which is made of their values."""

    @wraps(command)
    def run(**given: Any) -> None:
        value = make({option.name: given.pop(option.name) for option in options})
        command(**{name: value}, **given)

    own = [parameter for parameter in signature(command).parameters.values() if parameter.name != name]
    run.__signature__ = Signature(own + options)  # type: ignore[attr-defined]
    return run
