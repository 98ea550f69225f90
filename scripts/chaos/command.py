"""Kill workers, restart Redis, cut networks; then audit that every job ended exactly once.

    python scripts/chaos --jobs 10000 --kills 30 --restarts 5
    python scripts/chaos --quick

Producers submit jobs to an embedded server whose append-only file is synced at every write; workers run them in
no-op rows (--model: in the real model). Each process has a network of its own. A plan made from --seed says which
fault comes when: SIGKILL of workers at random instants and exactly at fault points, SIGSTOP of workers for
longer than their lease, cuts of the networks of a worker and of a producer, SIGTERM, SIGKILL and SIGSTOP of the
server. In the end every id that a producer has written down is looked up in Redis.

The recovery time of a worker's death, stop or cut runs until each job that it had started was seen started anew or
ended, watched from outside every tenth of a second. Time in which the server itself was down or stopped is left
out of ``recovery`` and counts in ``recovery_wall``.

The last line is JSON; the exit code is 1 when a job was lost, ended twice or ended wrongly.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

from chaos.ledger import audit
from chaos.plan import Amounts, Options, make_plan
from chaos.report import report, show
from chaos.run import Run
from chaos.server import Server
from worker.broker.rules import Rules

FAULTY = 0.85
"""The share of the run that has faults: a worker that is told to die at a fault point needs jobs to get there."""

QUICK = {"jobs": 500, "seconds": 14.0, "lease": 2.0, "workers": 2}
QUICK_AMOUNTS = {"kills": 4, "zombies": 1, "cuts": 2, "restarts": 2, "pauses": 1}


def run_chaos(options: Options, keep: Path | None = None) -> bool:
    """One run; prints its table and its line of JSON. Returns whether everything holds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chaos-"))) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        server = Server(folder)
        stack.callback(server.stop)
        server.start()
        run = Run(options, folder, server)
        stack.callback(run.close)
        run.fleet.start_workers()
        plan = make_plan(options.amounts, FAULTY * options.seconds, options.workers, options.lease, options.seed)
        ledgers, seconds = run.follow(plan)
        result = audit(run.connection, run.queue, ledgers, real=options.model is not None)
        figures = report(run, result, seconds)
    show(figures, result)
    print(json.dumps(figures))
    return result.holds


def parse(arguments: Sequence[str] | None) -> tuple[Options, Path | None]:
    """The size of the run, and the folder to keep."""
    parser = argparse.ArgumentParser(
        prog="python scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, lease = parser.add_argument, Rules.model_fields["lease_timeout"].default
    add("--jobs", type=int, default=10_000, help="jobs to submit")
    add("--seconds", type=float, default=240.0, help="time over which jobs are spread, and most of it faults")
    add("--kills", type=int, default=30, help="SIGKILLs of workers, a quarter at random instants")
    add("--zombies", type=int, default=4, help="SIGSTOPs of workers for longer than a lease")
    add("--cuts", type=int, default=4, help="cuts of the networks of a worker and a producer")
    add("--restarts", type=int, default=5, help="restarts of Redis, by SIGTERM and SIGKILL")
    add("--pauses", type=int, default=3, help="stops of Redis for 1 to 25 s")
    add("--producers", type=int, default=2, help="producer processes")
    add("--workers", type=int, default=3, help="worker processes")
    add("--rows", type=int, default=16, help="rows of each worker")
    add("--lease", type=float, default=lease, help="setting lease_timeout")
    add("--seed", type=int, default=0, help="decides the plan of faults and the jobs")
    add("--model", type=Path, help="model directory, in place of no-op rows")
    add("--keep", type=Path, help="folder for logs, ledgers and Redis data, kept")
    add("--quick", action="store_true", help="small: seconds, a short lease, few faults")
    given = vars(parser.parse_args(arguments))
    if given["quick"]:
        given |= QUICK | QUICK_AMOUNTS
    amounts = Amounts(**{field.name: given[field.name] for field in fields(Amounts)})
    sizes = {field.name: given[field.name] for field in fields(Options) if field.name != "amounts"}
    return Options(**sizes, amounts=amounts), given["keep"]


def main(arguments: Sequence[str] | None = None) -> int:
    options, keep = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl+C: stop what was started
    return 0 if run_chaos(options, keep) else 1
