"""`--dask`: the workers of a Dask cluster as an executor."""

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from polyjax.checks import require
from polyjax.runs.progress import say

LOCAL = "local:"
INSTALL = "--dask needs Dask: pip install 'polyjax[dask]'"
# Ctrl-C in a terminal reaches all processes there, of which the one that asked for work is to decide.
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
# Of the workers here, which share the cores with this process.
WORKERS = {
    # Else Dask gives up a worker that was started anew and is dead again when 15 s are over.
    "distributed.deploy.lost-worker-timeout": "1000d",
    # Watching Python a hundred times a second, and memory ten times, costs 4 % of a core each, and all work is XLA's.
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "2s",
    # Dask's own value gives memory back after each chunk, whose pages the next one must ask for again.
    "distributed.nanny.pre-spawn-environ": {
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        "MALLOC_TRIM_THRESHOLD_": str(2**28),
    },
}


@contextmanager
def executor(address: str) -> Iterator[Executor]:
    """Yield the workers of the scheduler at an address, or of as many processes here as "local:N" says. Raises
    ValueError for an address that is none, OSError where nobody answers."""
    try:
        from dask import config
        from distributed import Client, LocalCluster
        from distributed.utils import silence_logging_cmgr
    except ImportError:
        raise ValueError(INSTALL) from None
    here = address.startswith(LOCAL)
    number = address.removeprefix(LOCAL)
    require(not here or (number.isdigit() and int(number) > 0), "--dask", "be an address or local:N", address)
    with silence_logging_cmgr(logging.CRITICAL):  # what befalls workers is in the progress bar
        if here:
            options: dict[str, Any] = {
                "n_workers": int(number),
                "threads_per_worker": 1,
                "silence_logs": logging.CRITICAL,
            }
            options |= {"dashboard_address": ":0"}  # any port that is free
            with config.set(WORKERS), LocalCluster(**options, preload=DEAF) as cluster, Client(cluster) as client:
                yield from _executor(client)
        else:
            with Client(address) as client:
                yield from _executor(client)


def _executor(client: Any) -> Iterator[Executor]:
    say(f"dashboard of the workers: {client.dashboard_link}")
    yield client.get_executor(pure=False)
