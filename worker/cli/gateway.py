"""``rwkv-tts serve``: a gateway, a worker and, where none is configured, a Redis in one command."""

import signal
import sys
from threading import Thread
from typing import TYPE_CHECKING

from gateway.settings import Settings as GatewaySettings
from worker.cli.address import DATA
from worker.cli.common import CommandError
from worker.cli.console import errors
from worker.cli.local import LocalWorker, local_worker, redis_server
from worker.cli.options import with_gateway, with_settings
from worker.settings import Settings

if TYPE_CHECKING:
    from uvicorn import Server


@with_settings
@with_gateway
def serve(*, gateway: GatewaySettings, settings: Settings) -> None:
    """Speak to programs that know OpenAI's speech API: gateway, worker and Redis in one."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what is started here is stopped on the way out
    with redis_server(settings, data=DATA) as url, local_worker(settings, url) as worker:
        shared = {
            "redis": url,
            "redis_password_file": None,
            "queue": settings.queue[0],
            "results": settings.results,
        }
        _serve(gateway.model_copy(update=shared), worker)


def _serve(settings: GatewaySettings, worker: LocalWorker) -> None:
    from gateway.app import make_app
    from gateway.server import address, listen, make_server

    try:
        app = make_app(settings)
    except ValueError as error:
        raise CommandError(str(error)) from None
    with listen(settings) as listening:
        worker.wait_until_ready()
        server = make_server(app, settings)
        Thread(target=_end_with, args=(worker, server), daemon=True).start()
        url = address(listening)
        errors.print(f"a page at {url}/, speech at {url}/v1/audio/speech, and OpenAI's clients at {url}/v1")
        server.run(sockets=[listening])
    worker.check()


def _end_with(worker: LocalWorker, server: "Server") -> None:
    worker.wait()
    server.should_exit = True
