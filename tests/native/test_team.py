"""Members come and go with their team, sleep while nothing is to be done, and do not disturb a process's end."""

import ctypes
import gc
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import psutil
import pytest

from native.library import UnavailableError, function
from native.team import Team
from waiting import until

WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, torch
torch.set_num_threads(1)
from test_native import checkpoint, logits, ODD
from model.native.forward import NativeRWKV7
from native.library import function
model = NativeRWKV7(checkpoint(ODD))
alone = logits(model, ((96, 1),))[0]
model.use(3)
assert torch.equal(logits(model, ((96, 1),))[0], alone)
child = os.fork()
if not child:
    os._exit(0 if torch.equal(logits(model, ((96, 1),))[0], alone) else 1)
assert os.waitpid(child, 0)[1] == 0
function("team_wake", "p")(model._team.address)
"""


def threads() -> int:
    return psutil.Process().num_threads()


@pytest.fixture
def team() -> Team:
    try:
        return Team(3)
    except UnavailableError as error:
        pytest.skip(str(error))


def test_members_end_with_their_team(team: Team) -> None:
    before = threads()
    others = [Team(2), Team(0), Team(1)]
    assert threads() == before + 3
    del others
    gc.collect()
    assert threads() == before


def done_by(team: Team, unit: Callable[[int], object], units: int) -> list[tuple[int, int]]:
    """The units of a call, each with the member that did it."""
    found: list[tuple[int, int]] = []

    def work(_: object, number: int, member: int) -> None:
        unit(member)
        found.append((number, member))

    function("team_wake", "p")(team.address)
    function("team_run", "pppn")(team.address, WORK(work), None, units)
    function("team_rest", "p")(team.address)
    return found


@pytest.mark.parametrize("units", [4, 8])
def test_members_work_at_the_same_time_and_do_each_unit_once(team: Team, units: int) -> None:
    together = Barrier(4, timeout=60)
    found = done_by(team, lambda _: together.wait(), units)
    assert sorted(number for number, _ in found) == list(range(units))
    assert {member for _, member in found} == {0, 1, 2, 3}


def test_a_team_that_was_held_up_leaves_the_work_to_the_caller_for_a_while(team: Team) -> None:
    for _ in range(20):
        team, together = Team(3), Barrier(4, timeout=60)

        def held_up(member: int, together: Barrier = together) -> None:
            together.wait()
            time.sleep(0.02 if member else 0)

        done_by(team, held_up, 4)
        begun = time.monotonic()
        members = {member for _, member in done_by(team, lambda _: time.sleep(0.001), 20)}
        if time.monotonic() - begun < 0.05:
            assert members == {0}
            break
    until(lambda: {member for _, member in done_by(team, lambda _: time.sleep(0.001), 20)} != {0})


def test_members_sleep_between_calls(team: Team) -> None:
    wake, rest = function("team_wake", "p"), function("team_rest", "p")
    assert used(wake, team) > 0.02, "members that are awake wait busily, or this test tells nothing"
    assert used(rest, team) < 0.1


def used(change: object, team: Team) -> float:
    """Cores that this process uses after a change."""
    assert callable(change)
    change(team.address)
    time.sleep(0.05)
    cpu, begun = time.process_time(), time.perf_counter()
    time.sleep(0.3)
    return (time.process_time() - cpu) / (time.perf_counter() - begun)


def test_a_child_that_was_forked_and_an_end_in_the_middle_are_clean(team: Team) -> None:
    """At the end of the interpreter members are awake, as in the middle of a call."""
    paths = ["", "client", "scripts", "tests/support", "tests/model/native"]
    environment = {"PYTHONPATH": ":".join(str(ROOT / path) for path in paths), "PATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=100
    )
    assert (found.returncode, found.stderr) == (0, "")
