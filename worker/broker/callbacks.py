"""Runs the callbacks that jobs name, if the operator has listed them, and the operator's exception handlers."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from loguru import logger
from rq.defaults import CALLBACK_TIMEOUT
from rq.job_lifecycle import call_exception_handlers
from rq.webhook import Webhook

from rwkv_tts.refusal import Cause, Refusal
from worker.broker.jobs import ConcludedJob, HeldJob
from worker.broker.outcome import Fate, Outcome

_EVENTS = {Fate.FINISHED: "on_success", Fate.FAILED: "on_failure", Fate.STOPPED: "on_stopped"}
_HANDLERS = "exc_handler"
_THREADS = 4

ExceptionHandler = Callable[..., Any]
"""As RQ's: called with a failed job, the type of its error, the error and None; False keeps the next from it."""


class JobError(RuntimeError):
    """What failure callbacks and exception handlers are told: the reason why the job failed."""


class CallbackError(ValueError):
    """A function of the operator's list cannot be used; the message says why."""


class Callbacks:
    """The operator's list; nothing that is not on it is ever imported.

    Args:
        functions: ``module.name`` of functions that jobs may name; they are imported here and now.
        webhook_hosts: Hosts that webhooks may address.
        handlers: What is told of every failure, in this order; more may join it later.

    Raises:
        CallbackError: A function cannot be imported.
    """

    def __init__(
        self, functions: Sequence[str], webhook_hosts: Sequence[str], handlers: Sequence[ExceptionHandler] = ()
    ) -> None:
        self._handlers = handlers
        self._functions = {name: _import(name) for name in functions}
        self._hosts = {host.lower() for host in webhook_hosts}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="callback")
        self._senders = ThreadPoolExecutor(_THREADS, thread_name_prefix="webhook")

    def refusal(self, job: HeldJob) -> Refusal | None:
        """Why a job must not run: it names a function or an address that is not on the list."""
        for event, name in job.callback_names.items():
            if name not in self._functions:
                listed = ", ".join(self._functions) or "none (setting callbacks)"
                problem = f"{name[:80]!r} is not on the worker's list; accepted: {listed}"
                return Refusal(event, Cause.INVALID, problem)
        for webhook in job.webhooks:
            if _host(webhook) not in self._hosts:
                listed = ", ".join(sorted(self._hosts)) or "none (setting webhook_hosts)"
                problem = f"host {_host(webhook)[:80]!r} is not on the worker's list; accepted: {listed}"
                return Refusal("webhooks", Cause.INVALID, problem)
        return None

    def event_for(self, outcome: Outcome) -> tuple[str, int] | None:
        """What must be called before an outcome is recorded, if anything, and the seconds that it may take."""
        event, job = _EVENTS.get(outcome.fate), outcome.claimed.job
        if event in job.callback_names and self.refusal(job) is None:
            return event, job.callback_timeout(event)
        return (_HANDLERS, CALLBACK_TIMEOUT) if outcome.fate is Fate.FAILED and self._handlers else None

    def start(self, outcome: Outcome, event: str, done: Callable[[Refusal | None], None]) -> None:
        """Run the job's callback, then the handlers of a failure, in a thread.

        Args:
            outcome: What has become of the job.
            event: What ``event_for`` has said of it.
            done: Gets None, or what went wrong.
        """
        claimed = outcome.claimed
        job = ConcludedJob(claimed.job, claimed.request, outcome.fate.value, outcome.ended_at, outcome.result)

        def run() -> None:
            problem = None
            if event != _HANDLERS:
                function = self._functions[job.callback_names[event]]
                problem = _call(job, event, function, job, job.connection, *_told(outcome))
            if outcome.fate is Fate.FAILED:
                error = JobError, JobError(str(problem or outcome.reason)), None
                handled = _call(job, _HANDLERS, call_exception_handlers, self._handlers, job, *error)
                problem = problem or handled
            done(problem)

        self._threads.submit(run)

    def send_webhooks(self, outcome: Outcome) -> None:
        """Tell the listed ones of the addresses that the job names of its end; errors are logged by RQ."""
        job = outcome.claimed.job
        job.webhooks = [webhook for webhook in job.webhooks if _host(webhook) in self._hosts]
        if job.webhooks and outcome.fate in (Fate.FINISHED, Fate.FAILED):
            self._senders.submit(job.send_webhooks, outcome.fate.value, exc_string=outcome.reason or None)

    def close(self, *, finish: bool) -> None:
        """End the threads; with ``finish``, when all webhooks are sent."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._senders.shutdown(wait=finish, cancel_futures=not finish)


def _told(outcome: Outcome) -> tuple[Any, ...]:
    """What RQ tells a callback beside the job and the connection."""
    if outcome.fate is Fate.FINISHED:
        return (outcome.result,)
    return (JobError, JobError(outcome.reason), None) if outcome.fate is Fate.FAILED else ()


def _call(job: HeldJob, event: str, function: Callable[..., Any], *arguments: Any) -> Refusal | None:
    """Call the operator's code and await what it returns; what went wrong in it, if anything did."""
    try:
        returned = function(*arguments)
        if inspect.iscoroutine(returned):
            asyncio.run(returned)
    except BaseException as error:  # noqa: BLE001 - its error is the job's; without an answer the job would wait
        logger.opt(exception=True).warning("job {job}: {} failed", event, job=job.id)
        return Refusal(event, Cause.CALLBACK, f"{type(error).__name__}: {error}")
    return None


def _host(webhook: Webhook) -> str:
    return (urlsplit(webhook.url).hostname or "").lower()


def _import(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CallbackError(f"callbacks: {name!r} cannot be imported ({error}); accepted: module.name") from error
    if not callable(function):
        raise CallbackError(f"callbacks: {name!r} is not a function")
    return function  # type: ignore[no-any-return]
