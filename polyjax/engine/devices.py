"""The devices of this process: how many models at a time suit them, how work is spread over them, and where compiled
programs are kept."""

import os
import platform
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, wraps
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh, PartitionSpec

Program = tuple[Any, tuple]  # a jitted function, and the shapes of its arguments

CHUNK = {"cpu": 1600}  # lanes trained at once, see `benchmarks.throughput`
CHUNK_ELSEWHERE = 2**18
# Into how many chunks, at least, a CPU divides a grid, so that every core has some; whatever the number of its cores,
# as the shape of a chunk is part of the bits. In the lanes form fewer lanes than these are hardly trained sooner.
SHARES, FEWEST = 8, 400
IN_CACHE = 2**19  # numbers that a core of a CPU has close by
# Products of matrices on a CPU take one core each, as every core has a chunk of its own.
ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}
LEAST_COMPILE_SECONDS = 0.1  # what compiles faster is not worth a file


def check() -> None:
    """Raise ValueError where JAX is set to a precision, or to devices, with which nothing can be trained here, and in a
    process that was forked from one that called this: JAX's threads are not in it, for which training would wait."""
    if _first_process() != os.getpid():
        must = 'must be started anew (multiprocessing.get_context("spawn")), since JAX hangs in forked ones'
        raise ValueError(f"the process {must}, but is forked from {_first_process()}")
    config: Any = jax.config  # whose settings the type checker does not know
    if config.jax_enable_x64:
        raise ValueError("JAX_ENABLE_X64 must be false, since networks are trained in single precision, but is true")
    try:
        jax.default_backend()
    except Exception as error:  # of several kinds, for names that are none and for devices that are not there
        must = f"JAX_PLATFORMS must name devices that are here, but is {config.jax_platforms!r}"
        raise ValueError(f"{must} ({first_line(error)})") from error


@lru_cache(maxsize=1)
def _first_process() -> int:
    return os.getpid()


def workers() -> int:
    """Return how many chunks run at a time: one a core, since a kernel by itself uses one core well; on accelerators,
    and where a chunk is spread over several devices, one."""
    if jax.default_backend() != "cpu" or jax.local_device_count() > 1:
        return 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shares(n_lanes: int, engine: str) -> int:
    """Return of what the number of chunks of a grid is a multiple, where its rows allow it, so that no core waits in
    the end."""
    if jax.default_backend() != "cpu" or jax.local_device_count() > 1:
        return 1
    return max(1, min(SHARES, n_lanes // FEWEST)) if engine == "lanes" else SHARES


def default_chunk(n_lanes: int, engine: str) -> int:
    """Return how many lanes are trained at once by an engine: as many as suit the devices, and few enough that every
    core has some. It does not depend on the number of cores."""
    each = CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE)
    return min(each * jax.local_device_count(), ceil(n_lanes / shares(n_lanes, engine)))


def spread(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f(params, lane, row, key)` with the lanes, the second axis of params, of their coordinates and of all
    results, shared out evenly among the local devices, filled up with the last one where they do not divide. The
    devices never wait for each other, as lanes have nothing in common."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return f
    mesh = Mesh(np.array(devices), ("lanes",))
    lanes, whole = PartitionSpec(None, "lanes"), PartitionSpec()
    shared = jax.shard_map(f, mesh=mesh, in_specs=(lanes, lanes, whole, whole), out_specs=lanes, check_vma=False)

    @wraps(f)
    def filled_up(params: Any, lane: Any, row: Any, key: Array) -> Any:
        n = jax.tree.leaves(params)[0].shape[1]
        fill = [(0, 0), (0, -n % len(devices))]
        more = jax.tree.map(lambda a: jnp.pad(a, fill + [(0, 0)] * (a.ndim - 2), mode="edge"), (params, lane))
        return jax.tree.map(lambda a: a[:, :n], shared(*more, row, key))

    return filled_up


def over_lanes(f: Callable[[Any, Any, Any], Any], numbers: int) -> Callable[[Any, Any, Any], Any]:
    """Return `f(carry, lane, data)` over the carries [P, L, ...] and coordinates [P, L] of lanes and the data [P, ...]
    of rows. A lane computes `numbers` at a time: a CPU takes as many lanes at a time through all that `f` does as
    leave these in the cache of a core; other devices take all."""
    if jax.default_backend() != "cpu":
        return jax.vmap(jax.vmap(f, (0, 0, None)))
    at_once = max(1, IN_CACHE // numbers)

    def of_row(row: Any) -> Any:
        carry, lane, data = row
        return lax.map(lambda each: f(each[0], each[1], data), (carry, lane), batch_size=at_once)

    return lambda *rows: lax.map(of_row, rows)


def words() -> str:
    """Return the devices of this process in words, such as "cpu, AMD EPYC 9554" or "4 x NVIDIA H100"."""
    devices = jax.local_devices()
    if jax.default_backend() != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"cpu, {names[0] if names else platform.processor() or platform.machine()}"


def first_line(error: Exception) -> str:
    """Return what a device or its compiler says of an error, which may go on for pages."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def on_cpu(options: dict[str, Any]) -> dict[str, Any] | None:
    """Return options of the compiler for CPUs alone, as `jax.jit` takes them."""
    return options if jax.default_backend() == "cpu" else None


def compile_ahead(programs: Sequence[Program]) -> None:
    """Compile programs, all at the same time and before several threads ask for them."""
    with ThreadPoolExecutor(len(programs)) as executor:
        list(executor.map(lambda program: program[0].lower(*program[1]).compile(), programs))


@lru_cache(maxsize=1)
def keep_programs() -> None:
    """Keep compiled programs in the user's cache folder, so that the next run need not compile them again.

    Where JAX_COMPILATION_CACHE_DIR or the program itself names a folder, that one is used, with JAX's own settings;
    JAX_ENABLE_COMPILATION_CACHE=false switches it off, as does a folder that cannot be written to.
    """
    config: Any = jax.config  # whose settings the type checker does not know
    folder = _cache_folder() / "polyjax" / _processor()
    wanted = config.jax_compilation_cache_dir is None and config.jax_enable_compilation_cache
    if wanted and _writable(folder):
        config.update("jax_compilation_cache_dir", str(folder))
        config.update("jax_persistent_cache_min_compile_time_secs", LEAST_COMPILE_SECONDS)
        compilation_cache.reset_cache()  # JAX looks for a folder once, when it first compiles


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _cache_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _processor() -> str:
    """Machines that share a home may have processors whose programs do not run on each other."""
    of_kind = ("model name", "flags", "CPU part", "Features")
    kind = {line for line in _cpuinfo() if line.startswith(of_kind)} or {platform.processor()}
    return f"{platform.machine()}-{sha256(repr(sorted(kind)).encode()).hexdigest()[:12]}"


def _cpuinfo() -> list[str]:
    """Return what Linux tells about the processors; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    return info.read_text().splitlines() if info.exists() else []
