"""Several processes, on one host or many, that train one sweep: who this one is, and how they meet.

Lanes have nothing in common, so that processes need no connection while they train, only a folder that all can reach.
They meet once through `jax.distributed`, which also tells the devices of a TPU pod apart, and then leave each other, so
that one that dies takes nobody with it. One that is started again while the others are at work needs no meeting.
"""

import os
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import jax

from polyjax.checks import require
from polyjax.runs.folder.lock import held
from polyjax.runs.progress import say

MEETING_S = 300
SLURM = {"processes": "SLURM_STEP_NUM_TASKS", "process": "SLURM_PROCID", "device": "SLURM_LOCALID"}  # within `srun`


class Share(NamedTuple):
    """Part of the work that is this process's."""

    process: int = 0
    processes: int = 1


class Cluster(NamedTuple):
    """Way in which the processes find each other, as the user says it."""

    coordinator: str | None = None  # address:port of process 0
    processes: int | None = None
    process: int | None = None
    detect: bool = False  # JAX finds it out: TPU pods, Kubernetes, Open MPI

    @property
    def given(self) -> bool:
        return self.coordinator is not None or self.processes is not None or self.process is not None


def join(cluster: Cluster, locks: Iterable[Path]) -> Share:
    """Meets the other processes and returns this one's share; to be called before JAX is used. `locks` are the files
    that processes at work hold (see `lock`). Raises ValueError for what cannot be."""
    if cluster.given:
        share = _given(cluster)
    elif cluster.detect:
        return _detected()
    elif int(os.environ.get(SLURM["processes"], 1)) > 1:
        share = Share(int(os.environ[SLURM["process"]]), int(os.environ[SLURM["processes"]]))
    else:
        return Share()
    if share.processes == 1:
        return share
    if any(held(path) for path in locks):
        say(f"process {share.process} of {share.processes}: joining those that are at work")
        if not cluster.given:
            jax.config.update("jax_cuda_visible_devices", os.environ[SLURM["device"]])  # as `jax.distributed` has it
        return share
    if not cluster.given:
        return _meet({})
    process, processes = share
    return _meet({"coordinator_address": cluster.coordinator, "num_processes": processes, "process_id": process})


def _given(cluster: Cluster) -> Share:
    for name in ("coordinator", "processes", "process"):
        option = {"processes": "--num-processes", "process": "--process-id"}.get(name, f"--{name}")
        require(getattr(cluster, name) is not None, option, "be given where the others are", None)
    n, i, address = cluster.processes, cluster.process, str(cluster.coordinator)
    assert n is not None
    assert i is not None
    require(n >= 1, "--num-processes", "be at least 1", n)
    require(0 <= i < n, "--process-id", f"be from 0 to {n - 1}", i)
    port = address.rpartition(":")[2]
    require(":" in address and port.isdigit(), "--coordinator", "be the address:port of process 0", address)
    return Share(i, n)


def _detected() -> Share:
    try:
        return _meet({})
    except ValueError as error:
        raise ValueError(f"--cluster must be left out where JAX finds no other processes: {error}") from error


def _meet(explicit: dict[str, Any]) -> Share:
    """Waits for all processes, and leaves when everybody knows the devices."""
    # A compiler that shares work with other hosts would wait for programs which they do not compile.
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_shard_autotuning=false"
    jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM from now on
    if explicit:
        say("process {process_id} of {num_processes}: waiting for all at {coordinator_address}".format(**explicit))
    # In a thread of its own, as JAX hears no Ctrl-C while it waits, and kills the process when it has waited long.
    met: Future[Share] = Future()
    Thread(target=_initialize, args=(met, explicit), daemon=True).start()
    try:
        return met.result(MEETING_S)
    except TimeoutError:
        raise TimeoutError(f"not all processes were there within {MEETING_S} s; start them all again") from None


def _initialize(met: Future[Share], explicit: dict[str, Any]) -> None:
    try:
        jax.distributed.initialize(**explicit, initialization_timeout=2 * MEETING_S)
        share = Share(jax.process_index(), jax.process_count())
        jax.distributed.shutdown()
        met.set_result(share)
    except BaseException as error:
        met.set_exception(error)
