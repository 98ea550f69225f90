"""Several workers on one page: sums are right, and one that is silent holds up nobody."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client import CollectorRegistry

from scraping import ask, scrape, shown
from worker.ops.health import Health, HealthServer
from worker.ops.metrics import Metrics
from worker.ops.together import Member, Together


class Ready(Health):
    """Of a worker that takes jobs."""

    def obstacle(self) -> str | None:
        return None


def alive() -> bool:
    return False


def worker(device: str, health: Health, stack: ExitStack, jobs: int = 0) -> Member:
    """One that is nothing but its page; it has claimed some jobs."""
    metrics = Metrics()
    metrics.show_ready(lambda: health.obstacle() is None)
    metrics.show_engine("plain")
    metrics.claimed(jobs)
    server = stack.enter_context(HealthServer("127.0.0.1", 0, metrics.registry, health))
    return Member(device, server.port, alive)


@contextmanager
def page(*members: Member) -> Iterator[int]:
    together, registry = Together(members), CollectorRegistry()
    registry.register(together)
    with HealthServer("127.0.0.1", 0, registry, together) as server:
        yield server.port


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_page_has_every_sample_of_every_worker_by_device(stack: ExitStack) -> None:
    with page(worker("cuda:0", Ready(), stack, jobs=3), worker("cuda:1", Ready(), stack, jobs=4)) as port:
        found = scrape(port)
        assert found['rwkv_tts_jobs_claimed_total{device="cuda:0"}'] == 3
        assert found['rwkv_tts_jobs_claimed_total{device="cuda:1"}'] == 4
        own = Metrics()
        own.show_ready(bool)
        own.show_engine("plain")
        names = sorted(name.partition("{")[0] for name in shown(own.registry))
        assert sorted(name.partition("{")[0] for name in found) == sorted(2 * names)
        assert (ask(port, "/livez"), ask(port, "/readyz")) == ((200, "ok\n"), (200, "ok\n"))


def test_all_are_ready_when_each_is_and_the_others_are_named(stack: ExitStack) -> None:
    with page(worker("cpu/0", Ready(), stack), worker("cpu/1", Health(), stack)) as port:
        assert ask(port, "/readyz") == (503, "cpu/1: the model is being loaded\n")
        assert ask(port, "/livez") == (200, "ok\n")


def test_a_silent_worker_is_down_and_holds_up_nobody(stack: ExitStack) -> None:
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    member = Member("cpu/1", silent.getsockname()[1], alive)
    with page(worker("cpu/0", Ready(), stack, jobs=3), member) as port:
        start = time.monotonic()
        for path in ("/livez", "/readyz"):
            assert ask(port, path) == (503, "cpu/1: its worker does not answer\n")
        found = scrape(port)
        assert time.monotonic() - start < 15  # it would be for ever
        assert found['rwkv_tts_jobs_claimed_total{device="cpu/0"}'] == 3
        assert {name for name in found if "cpu/1" in name} == {'rwkv_tts_ready{device="cpu/1"}'}
        assert found['rwkv_tts_ready{device="cpu/1"}'] == 0


def test_one_that_has_ended_takes_no_jobs_but_is_not_ill(stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    ended = Member("cpu/1", port, lambda: True)
    with page(worker("cpu/0", Ready(), stack), ended) as port:
        assert ask(port, "/readyz") == (503, "cpu/1: its worker has ended\n")
        assert ask(port, "/livez") == (200, "ok\n")
