"""rq-dashboard for jobs of plain values, written by producers that nobody vouches for.

rq-dashboard 0.9 reads some pages' jobs with pickle, cannot show a job that depends on another, lets one
unreadable job hide all others, puts text of jobs into its pages as markup, and reads half of a list for a page at
its end. The names that it uses are
replaced here; nothing of it is copied.
"""

import hmac
import html
import ipaddress
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

import rq_dashboard.web as web
from flask import Flask, Response, abort, current_app, request
from flask.json.provider import DefaultJSONProvider
from redis import Redis
from redis.exceptions import ResponseError
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.queue import Queue
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker import Worker
from werkzeug.sansio.response import Response as BareResponse
from werkzeug.serving import BaseWSGIServer, make_server

from rwkv_tts.pickles import ACCEPTED, serializer_of
from worker.broker.jobs import inflate

_EXACT_IN_JAVASCRIPT = 2**53
_LONGEST_FIELD = 4 << 20
_LONGEST_PAGE = 1000
_LISTS = ("queued", "started", "finished", "failed", "deferred", "scheduled", "canceled")


class DashboardError(ValueError):
    """The dashboard cannot be served like this; one line that names the option and what is accepted."""


def _unreadable(what: str, error: Exception) -> str:
    return f"{what}: not readable ({type(error).__name__}); accepted: {ACCEPTED}"


class _Id(str):
    """A job id that may be decoded like the bytes that rq-dashboard 0.9 expects."""

    def decode(self, *_: Any) -> str:
        return self


class _Job(Job):
    """A job that is never unpickled and bounded in size; what cannot be read is a line of text in its place."""

    success_callback = failure_callback = stopped_callback = None
    readable = True

    def __init__(self, id: str | None = None, connection: Redis | None = None, **_: Any) -> None:
        super().__init__(id, connection, JSONSerializer)

    def restore(self, raw_data: Mapping[bytes, bytes]) -> None:
        bounded = dict(raw_data)
        for name in (b"data", b"exc_info"):
            if name in bounded:
                bounded[name] = inflate(bounded[name], _LONGEST_FIELD)
                self.readable &= len(bounded[name]) < _LONGEST_FIELD
        self.serializer = serializer_of(bounded.get(b"data", b""))
        try:
            super().restore(bounded)
        except NoSuchJobError:
            raise
        except Exception as error:  # noqa: BLE001 - depends on the field
            self.readable = False
            self.origin = raw_data.get(b"origin", b"").decode(errors="replace")
            self.description = _unreadable("job", error)

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        try:
            return super().get_meta(refresh)
        except Exception as error:  # noqa: BLE001 - depends on the serializer
            return {"unreadable": _unreadable("meta", error)}

    def latest_result(self, timeout: int = 0) -> Result | None:
        try:
            return super().latest_result(timeout)
        except Exception as error:  # noqa: BLE001 - depends on the serializer
            value = _unreadable("result", error)
            return Result(self.id, Result.Type.SUCCESSFUL, self.connection, id="unreadable", return_value=value)

    def get_call_string(self) -> str | None:
        try:
            return super().get_call_string()
        except Exception as error:  # noqa: BLE001 - depends on the call
            return _unreadable("data", error)

    @property
    def dependency_ids(self) -> list[str]:
        return [_Id(job_id) for job_id in super().dependency_ids]


class _Queue(Queue):
    job_class = _Job

    def fetch_job(self, job_id: str) -> Job | None:
        try:
            return super().fetch_job(job_id)
        except (ValueError, ResponseError):  # not an id that RQ makes, or its key is not a hash
            return None


class _Worker(Worker):
    job_class: type[Job] = _Job

    def get_current_job(self) -> Job | None:
        try:
            return super().get_current_job()
        except NoSuchJobError:  # deleted while it runs
            return None


def _page(
    queue_name: str, registry_name: str, offset: int, per_page: int, order: str, connection: Redis
) -> tuple[int, list[dict[str, Any]]]:
    """How many jobs a list has, and a page of it; rq-dashboard 0.9 reads further the later the page is."""
    if registry_name not in _LISTS:
        abort(404)
    queue = _Queue(queue_name, connection=connection, serializer=JSONSerializer)
    registry = None if registry_name == "queued" else getattr(queue, f"{registry_name}_job_registry")
    total: int = queue.count if registry is None else registry.get_job_count(cleanup=False)
    first, end = offset, min(total, offset + min(per_page, _LONGEST_PAGE))
    if order == "dsc":
        first, end = max(0, total - end), total - first
    if first >= end:
        return total, []
    if registry is None:
        ids = queue.get_job_ids(first, end - first)
    else:
        ids = registry.get_job_ids(first, end - 1, cleanup=False)
    jobs = map(queue.fetch_job, reversed(ids) if order == "dsc" else ids)
    return total, [web.serialize_job(job) for job in jobs if job]


def _requeue_job(job_id: str, connection: Redis, **_: Any) -> None:
    """Requeue a failed job, unless its hash cannot be read: saving it would lose what it held."""
    job = _Job.fetch(job_id, connection=connection)
    if isinstance(job, _Job) and job.readable:
        job.requeue()


class _Json(DefaultJSONProvider):
    """Escapes the text that the pages put into their markup as it is, and keeps long numbers exact."""

    def response(self, *args: Any, **kwargs: Any) -> BareResponse:
        # The page of job lists is the one that escapes.
        shown = kwargs if request.endpoint == "rq_dashboard.list_jobs" else _for_markup(kwargs)
        return super().response(*args, **shown)


def _for_markup(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {html.escape(key): _for_markup(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_for_markup(item) for item in value]
    if isinstance(value, int) and abs(value) > _EXACT_IN_JAVASCRIPT:
        return str(value)
    return value


def check_access(host: str, username: str | None, password: str | None) -> None:
    """Refuse to show the jobs to a network without a password.

    Raises:
        DashboardError: One line that names the option and what is accepted.
    """
    if password:
        return
    if username:
        raise DashboardError("--username: accepted only with a password (RQ_DASHBOARD_PASSWORD or --password)")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise DashboardError(
            f"--host: {host!r} is not a loopback address; accepted: 127.0.0.1, ::1, localhost, "
            "or any address with a password (RQ_DASHBOARD_PASSWORD or --password)"
        )


def create_app(connection: Redis, name: str, login: tuple[str, str] | None = None) -> Flask:
    """The dashboard of one Redis.

    Args:
        connection: Redis.
        name: What the pages call it.
        login: User name and password of HTTP basic authentication; None lets everybody in.
    """
    web.config.serializer = JSONSerializer
    web.Job, web.Queue, web.Worker, web.requeue_job = _Job, _Queue, _Worker, _requeue_job
    web.get_queue_registry_jobs_count = _page
    # It would open a connection for each request, from a URL that then has to hold the password.
    web.from_url = lambda *_, **__: (None, current_app.redis_conn)  # type: ignore[attr-defined]

    app = Flask("rq_dashboard")
    app.config["RQ_DASHBOARD_REDIS_URL"] = (name,)
    app.redis_conn = connection  # type: ignore[attr-defined]
    app.json = _Json(app)
    app.jinja_env.autoescape = True  # its scripts are templates too, and hold names of queues
    app.before_request(_refuse_other_sites)
    if login is not None:
        app.before_request(lambda: _refuse_strangers(*login))
    app.register_blueprint(web.blueprint)
    app.register_error_handler(NoSuchJobError, lambda _: ("no such job: it was deleted or has expired", 404))
    return app


def _refuse_strangers(username: str, password: str) -> Response | None:
    given = request.authorization
    text = f"{given.username}:{given.password}" if given else ""
    if hmac.compare_digest(text.encode(), f"{username}:{password}".encode()):
        return None
    return Response("log in\n", 401, {"WWW-Authenticate": 'Basic realm="rwkv-tts dashboard"'})


def _refuse_other_sites() -> None:
    """A page of another site must not press buttons with the login, or the loopback address, of its visitor."""
    changes = request.method == "POST" or request.endpoint == "rq_dashboard.requeue_all"
    if changes and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        abort(403)


def listen(app: Flask, host: str, port: int) -> BaseWSGIServer:
    """A server that has bound its address; port 0 takes a free one.

    Raises:
        DashboardError: The address cannot be bound.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise DashboardError(
            f"--host {host} --port {port}: {reason}; accepted: an address of this machine and a free port"
        ) from None
    with bound:
        return make_server(host, port, app, threaded=True, fd=bound.fileno())
