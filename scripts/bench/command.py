"""Which benches there are, and how one is chosen: ``python scripts/bench [NAME] [options]``."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

DEFAULT = "system"
BENCHES: Mapping[str, str] = {
    "system": "Redis, a worker process and clients that wait for audio files; without a name",
    "engine": "the language model's engine: decode steps, prefill, chunk sizes; beside other ways",
    "vocoder": "the codec's decoder on a GPU, alone and beside decode steps",
    "cloning": "what a reference recording costs before synthesis starts",
    "overhead": "RQ's bookkeeping for each job, beside the stock rq.SimpleWorker",
    "listeners": "streams: how soon they are heard, and whether anybody who listens has to wait",
    "httpapi": "what HTTP adds to streams, slow readers, dropped connections; with rows that make silence",
    "crowd": "many workers of one Redis: what recovery costs, how long a lone job waits beside idle ones",
}
"""Each is the module of its name."""


def usage() -> str:
    lines = [f"  {name:<10}{text}" for name, text in BENCHES.items()]
    head = f"usage: python scripts/bench [{'|'.join(BENCHES)}] [options]"
    foot = "Options: python scripts/bench NAME --help. The last line of every bench is JSON."
    return "\n".join([head, "", *lines, "", foot])


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if not given or given[0].startswith("-"):
        given.insert(0, DEFAULT)
    name, *options = given
    if name not in BENCHES:
        print(f"error: no bench {name!r}\n{usage()}", file=sys.stderr)
        return 2
    code: int = import_module(f"bench.{name}").main(options)
    return code
