"""The table of all kinds of faults: what each hits, how it is begun and ended, and how long it lasts."""

from collections.abc import Sequence

from chaos.clock import why_no_clocks
from chaos.faults import networks, refusals, servers, stores, workers
from chaos.faults.kind import Kind, Target
from chaos.namespace import why_no_namespaces
from chaos.network import Trouble
from chaos.objects import why_no_store
from chaos.points import FaultPoint
from chaos.tool import Tool

_WORKER, _NETWORK, _SERVER = Target.WORKER, Target.NETWORK, Target.SERVER

KINDS = {
    kind.name: kind
    for kind in (
        Kind("kill", _WORKER, workers.kill),
        *(Kind(point.value, _WORKER, workers.die_at(point), told=True) for point in FaultPoint),
        Kind("freeze", _WORKER, workers.freeze, 1.1, 1.6, in_leases=True),
        Kind("worker-clock", _WORKER, workers.step_clock, 1, 10, tool=Tool.CLOCKS),
        *(
            Kind(trouble.value, _NETWORK, networks.disturbed(trouble), 0.2, 2.0, in_leases=True)
            for trouble in Trouble
        ),
        Kind("half-open", _NETWORK, networks.half_open),
        Kind("packets-lost", _NETWORK, networks.dropping(20), 0.2, 2.0, in_leases=True, tool=Tool.NAMESPACES),
        Kind("unplugged", _NETWORK, networks.dropping(100), 0.2, 2.0, in_leases=True, tool=Tool.NAMESPACES),
        Kind("restart", _SERVER, servers.restart(gently=True), 0.2, 3),
        Kind("crash", _SERVER, servers.restart(gently=False), 0.2, 3),
        Kind("rollback", _SERVER, servers.roll_back, 0.2, 3),
        Kind("server-freeze", _SERVER, servers.freeze, 1, 25),
        Kind("server-clock", _SERVER, servers.step_clock, 1, 10, tool=Tool.CLOCKS),
        Kind("oom", _SERVER, refusals.full, 1, 15),
        Kind("misconf", _SERVER, refusals.no_snapshot, 1, 15),
        Kind("disk-full", _SERVER, refusals.disk_full, 2, 15),
        Kind("readonly", _SERVER, refusals.read_only, 1, 15),
        Kind("noreplicas", _SERVER, refusals.no_replicas, 1, 15),
        Kind("acl", _SERVER, refusals.fewer_rights, 1, 15),
        Kind("client-pause", _SERVER, refusals.paused, 1, 15),
        Kind("maxclients", _SERVER, refusals.no_connections, 1, 15),
        Kind("script-flush", _SERVER, refusals.scripts_forgotten),
        Kind("store-crash", Target.STORE, stores.crash, 0.2, 3, tool=Tool.STORE),
    )
}

_WHY_NOT = {Tool.CLOCKS: why_no_clocks, Tool.NAMESPACES: why_no_namespaces, Tool.STORE: why_no_store}


def available(names: Sequence[str], *, store: bool = False) -> tuple[list[Kind], dict[str, str]]:
    """Kinds by name, all when there is none; those that this run cannot have are left out, with the reason.

    Args:
        names: Of kinds.
        store: Whether audio goes to a store, which processes in a network namespace would not reach.

    Raises:
        ValueError: A name is unknown.
    """
    if unknown := [name for name in names if name not in KINDS]:
        raise ValueError(f"kinds: {', '.join(unknown)} unknown; accepted: {', '.join(KINDS)}")
    not_here = {Tool.NAMESPACES: "with --store"} if store else {Tool.STORE: "without --store"}
    reasons = {tool: not_here.get(tool) or why() for tool, why in _WHY_NOT.items()}
    kinds = [KINDS[name] for name in names or KINDS]
    missing = {kind.name: reason for kind in kinds if kind.tool and (reason := reasons[kind.tool])}
    return [kind for kind in kinds if kind.name not in missing], missing
