"""Runs the callbacks that jobs name, if the operator has listed them; nothing else is ever imported."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from loguru import logger
from rq.webhook import Webhook

from rwkv_tts.refusal import Cause, Refusal
from worker.broker.jobs import HeldJob
from worker.broker.outcome import Fate, Outcome

_EVENTS = {Fate.FINISHED: "on_success", Fate.FAILED: "on_failure", Fate.STOPPED: "on_stopped"}
_THREADS = 4


class JobError(RuntimeError):
    """What a failure callback is told: the reason why the job failed."""


class CallbackError(ValueError):
    """A function of the operator's list cannot be used; the message says why."""


class Callbacks:
    """The operator's list.

    Args:
        functions: ``module.name`` of functions that jobs may name; they are imported here and now.
        webhook_hosts: Hosts that webhooks may address.

    Raises:
        CallbackError: A function cannot be imported.
    """

    def __init__(self, functions: Sequence[str], webhook_hosts: Sequence[str]) -> None:
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

    def event_for(self, outcome: Outcome) -> str | None:
        """The event that the job wants to be told of, when its outcome is one."""
        event = _EVENTS.get(outcome.fate)
        return event if event in outcome.claimed.job.callback_names else None

    def start(self, outcome: Outcome, event: str, done: Callable[[Refusal | None], None]) -> None:
        """Run the job's callback in a thread; ``done`` gets None, or what went wrong in it."""
        job = outcome.claimed.job
        function = self._functions[job.callback_names[event]]
        arguments: tuple[Any, ...] = ()
        if event == "on_success":
            arguments = (outcome.result,)
        elif event == "on_failure":
            arguments = (JobError, JobError(outcome.reason), None)

        def run() -> None:
            try:
                function(job, job.connection, *arguments)
            except Exception as error:  # noqa: BLE001 - the operator's code; its error is the job's
                logger.opt(exception=True).warning("job {}: {} failed", job.id, event)
                done(Refusal(event, Cause.CALLBACK, f"{type(error).__name__}: {error}"))
            else:
                done(None)

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
