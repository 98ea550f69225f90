"""Kill workers, cut networks, have Redis refuse, restart and forget; then audit that every job ended exactly once.

    python scripts/chaos --jobs 10000 --faults 44
    python scripts/chaos --quick --kinds oom,misconf --server /usr/bin/redis-server

Producers submit jobs to a server whose append-only file is synced at every write; workers run them in no-op rows
(--model: in the real model). Each process has a network of its own. A plan made from --seed draws from all kinds
of faults evenly; faults.table is their list. Those of the server follow one another, others may come at any time.
Kinds that need what this machine has not (root, nftables, a C compiler) are left out, and the report says so. In
the end every id that a producer has written down is looked up in Redis. With --store audio goes to an S3 server,
where nothing may be left in the end that no finished job names.

Recovery runs from a fault's end until each job that it had hit was seen started anew or ended, watched from
outside every tenth of a second. Time in which another fault had the server is left out of ``recovery`` and counts
in ``recovery_wall``. The second table tells what producers saw of each kind: the longest submit and the longest
wait for a result, work included, that met faults of that kind only.

The last line is JSON; the exit code is 1 when a job was lost, in no place, ended twice or ended wrongly.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

from chaos.audit import audit
from chaos.book import read
from chaos.faults.table import KINDS, available
from chaos.options import Options
from chaos.plan import make_plan
from chaos.report import report, show
from chaos.run import Run
from chaos.server import Server
from chaos.surroundings import Site
from rwkv_tts.audio_store import AudioStore
from worker.broker.rules import Rules

QUICK = {"jobs": 300, "seconds": 14.0, "faults": 12, "lease": 2.0, "workers": 2}


def run_chaos(options: Options, names: Sequence[str], keep: Path | None = None) -> bool:
    """One run; prints its tables and its line of JSON. Returns whether everything holds."""
    kinds, left_out = available(names, store=options.store)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chaos-"))) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        site = Site(folder, {kind.tool for kind in kinds}, store=options.store)
        if site.store is not None:
            stack.callback(site.store.kill)
            site.store.start()
            os.environ.update(site.store.variables)
        server = Server(site, options.server)
        stack.callback(server.stop)
        server.start()
        run = Run(options, site, server)
        stack.callback(run.close)
        run.fleet.start_workers()
        ledgers, seconds = run.follow(make_plan(kinds, options))
        book = read(ledgers)
        store = AudioStore(site.store.url) if site.store else None
        result = audit(server.admin, run.queue, book, server.rollbacks, options.model is not None, store)
        figures = report(run, book, result, seconds, left_out)
    show(run, book, figures, result)
    print(json.dumps(figures))
    return result.holds


def parse(arguments: Sequence[str] | None) -> tuple[Options, list[str], Path | None]:
    """The size of the run, the kinds of its faults, and the folder to keep."""
    parser = argparse.ArgumentParser(
        prog="python scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, lease = parser.add_argument, Rules.model_fields["lease_timeout"].default
    add("--jobs", type=int, default=10_000, help="jobs to submit")
    add("--seconds", type=float, default=510.0, help="time over which jobs are spread, and most of it faults")
    add("--faults", type=int, default=44, help="how many faults, of all kinds as many")
    add("--kinds", default="", help=f"only these, comma between: {', '.join(KINDS)}")
    add("--server", type=Path, help="redis-server or valkey-server, in place of the embedded one")
    add("--store", action="store_true", help="audio goes to an S3 server, s3rver, which has faults as well")
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
        given |= QUICK
    names = [name for name in given["kinds"].split(",") if name]
    return Options(**{field.name: given[field.name] for field in fields(Options)}), names, given["keep"]


def main(arguments: Sequence[str] | None = None) -> int:
    options, names, keep = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl+C: stop what was started
    return 0 if run_chaos(options, names, keep) else 1
