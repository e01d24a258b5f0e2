"""Origin of results: the command, the versions, the device and the revision of the code."""

import functools
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Collection, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from polyjax.engine import devices

TRAINS = ("*.py", "embedding/capacity.py", "toy/*.py", "engine/*.py", "engine/fused/*.py", "runs/*.py")
TRAINS_NOTHING = {
    f"{name}.py"
    for name in ("__init__", "__main__", "cell", "content", "export", "labels", "phases", "plot", "summary")
}
TRAINS_NOTHING |= {"runs/verification.py", "runs/comparison.py"}
PACKAGES = ("polyjax", "jax", "jaxlib", "optax", "numpy")
# Options of the sweep scripts that change how a run is done, but not its results: (name, whether a value follows).
RUN_OPTIONS = {"--restart": False, "--timing": False, "--dask": True}


def made(engine: str) -> dict[str, Any]:
    """Return how outcomes are made in this process, by the engine of this name.

    JSON-serialisable, and the same for the same software on the same machine: neither date nor duration.
    """
    return {
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "device": devices.words(),
        "engine": engine,
        "revision": revision(),
        "code": code(),
        **({"XLA_FLAGS": flags} if (flags := os.environ.get("XLA_FLAGS")) else {}),
    }


def installed(package: str) -> str:
    """Return the version of a package, where it is installed: polyjax may be imported from a folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def command(without: Collection[str] = tuple(RUN_OPTIONS)) -> str | None:
    """Return the command line of this process, without some options, where another process can repeat it; None in a
    notebook or at a prompt."""
    if not sys.argv[0] or sys.argv[0] == "-c" or "ipykernel" in sys.argv[0]:
        return None
    return shlex.join(["python", *without_options(sys.orig_argv[1:], without)])


def without_options(words: Sequence[str], names: Collection[str]) -> list[str]:
    """Return a command line without some of RUN_OPTIONS and their values."""
    kept, skip = [], False
    for word in words:
        name, joined, _ = word.partition("=")
        if not skip and name not in names:
            kept.append(word)
        skip = not skip and name in names and RUN_OPTIONS[name] and not joined
    return kept


def how_to_continue() -> str:
    """Return how an unfinished run goes on, in words."""
    again = command(("--restart",))
    return f"continue with: {again}" if again else "the same call continues it"


@functools.cache
def code() -> str:
    """Return the checksum of polyjax's own source, as far as results depend on it (the same files as TRAINING in the
    Makefile): two edits of one revision, and installed packages, are told apart by it."""
    root, found = Path(__file__).parents[1], sha256()
    for name in what_trains(root):
        found.update(name.encode() + b"\0" + (root / name).read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return found.hexdigest()[:12]


def what_trains(root: Path) -> list[str]:
    """Return the files of the package, which is in the folder `root`, that results depend on."""
    files = {path.relative_to(root).as_posix() for pattern in TRAINS for path in root.glob(pattern)}
    return sorted(files - TRAINS_NOTHING)


@functools.cache
def revision() -> str | None:
    """Return the git revision of polyjax, "(modified)" where files differ from it; None where it is no checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parents[1]  # of polyjax
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not a copy inside somebody else's checkout
        modified = git("status", "--porcelain", "--untracked-files=no", ".")  # polyjax itself
        return git("rev-parse", "--short=12", "HEAD") + (" (modified)" if modified else "")
    except (OSError, subprocess.CalledProcessError):
        return None
