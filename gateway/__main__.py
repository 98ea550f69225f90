"""The ``rwkv-tts-gateway`` command."""

import argparse
import logging
import sys

from pydantic import ValidationError

from gateway.app import make_app
from gateway.keys import new_key
from gateway.server import address, listen, make_server
from gateway.settings import PREFIX, Settings, unknown_variables


def main() -> None:
    """Entry point: expected errors are one line and exit code 1."""
    arguments = vars(_parser().parse_args())
    if arguments.pop("command") == "key":
        key, line = new_key(arguments["name"], voices=arguments["voices"])
        print(f"key:  {key}\nline: {line}")  # noqa: T201
        return
    for line in unknown_variables():
        print(f"warning: {line}", file=sys.stderr)  # noqa: T201
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run(Settings(**{name: value for name, value in arguments.items() if value is not None}))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        _end(": ".join([*map(str, problem["loc"]), problem["msg"].removeprefix("Value error, ")]))
    except (ValueError, OSError) as error:
        _end(str(error))


def run(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        ValueError: The settings cannot be used.
        OSError: The address cannot be had.
    """
    app = make_app(settings)
    with listen(settings) as listening:
        print(f"gateway of queue {settings.queue} on {address(listening)}", file=sys.stderr)  # noqa: T201
        make_server(app, settings).run(sockets=[listening])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rwkv-tts-gateway", description="OpenAI's speech API for rwkv-tts workers."
    )
    parser.set_defaults(command="serve")
    for name, field in Settings.model_fields.items():
        told = f"{field.description} (env {PREFIX}{name.upper()})".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", help=told, default=None)
    commands = parser.add_subparsers(dest="command", required=False)
    key = commands.add_parser("key", help="print a new API key, and the line for the file of keys")
    key.add_argument("name", help="of the key")
    key.add_argument("--voices", action="store_true", help="it may add and remove voices")
    return parser


def _end(reason: str) -> None:
    print(f"error: {reason}", file=sys.stderr)  # noqa: T201
    sys.exit(1)


if __name__ == "__main__":
    main()
