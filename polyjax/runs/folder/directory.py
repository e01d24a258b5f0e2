"""A run in progress on disk: a folder of chunk files beside a manifest, so that nothing trained is lost.

Every file is whole or not there. Chunk files are `.npz` that load without pickles; their checksums are zip's. Several
processes may share the folder, each of which does its own part of the work.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from time import sleep
from typing import Any, BinaryIO

import numpy as np

from polyjax import files
from polyjax.configuration import differences
from polyjax.runs import provenance
from polyjax.runs.folder import manifest
from polyjax.runs.folder.interruption import Interrupted, Requests
from polyjax.runs.folder.lock import Held
from polyjax.runs.progress import say
from polyjax.runs.store import Arrays

LOCK = "lock"
CHUNKS = "*-[0-9]*.npz"  # of all stages (see `store.names`)
WAIT_S = 0.2  # between two looks at what other processes have done
TELL_S = 5.0  # after which waiting is told


def folder(path: Path) -> Path:
    """Return the folder of the run that makes the results file `path`."""
    return path.with_suffix(".run")


def results_file(folder: Path) -> Path:
    """Return the inverse of `folder`."""
    return folder.with_suffix(".npz")


class Directory:
    """A store (see `store.Store`) in a folder. Enter it to hold its lock and to have signals noted."""

    shape: tuple[int, int] | None = None
    room: int | None = None
    engine = ""

    def __init__(self, folder: Path, config: Mapping[str, Any], index: int = 0, processes: int = 1) -> None:
        self.folder, self.index, self.processes = folder, index, processes
        self._config = config
        self._requests = Requests()
        self._locks: list[Held] = []

    def __enter__(self) -> "Directory":
        """Raises ValueError where another process is at work here, or where the run is of another configuration."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # which `writing` takes for a folder that was removed
            raise OSError(f"cannot make the folder {self.folder.parent}") from error
        try:
            self.writing(self._lock)
            self._continue()
        except BaseException:
            self._release()
            raise
        self._requests.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.__exit__()
        self._release()

    def _lock(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._locks.append(_locked(self.folder, LOCK, shared=self.processes > 1))
        if self.processes > 1:
            self._locks.append(_locked(self.folder, f"{LOCK}-{self.index}"))

    def _release(self) -> None:
        while self._locks:
            self._locks.pop().release()

    def _continue(self) -> None:
        """Take up what the manifest says, if there is one."""
        for left in files.unfinished(self.folder, f"{self.index}-" if self.processes > 1 else ""):
            left.unlink(missing_ok=True)
        if self.index > 0:
            self._wait_for_the_first()
        try:
            found = manifest.read(self.folder)
        except FileNotFoundError:
            return
        refuse_other(found["config"], self._config, f"the run in {self.folder}")
        self.shape, self.room = tuple(found["shape"]), found["room"]

    def _wait_for_the_first(self) -> None:
        """Process 0 writes the manifest."""
        waited = 0.0
        while not manifest.path(self.folder).exists():
            if results_file(self.folder).exists():  # and process 0 has cleared up
                self.remove()
                raise self._removed()
            sleep(WAIT_S)
            waited += WAIT_S
            if waited - WAIT_S < TELL_S <= waited:
                say(f"process {self.index} waits for process 0 to begin the run in {self.folder}")

    # --- outcomes

    def kept(self, name: str) -> bool:
        try:
            arrays = files.arrays(self._path(name))
            about = json.loads(str(arrays.pop("about")))
            other = "run" if about["run"] != self._run else "chunk" if about["name"] != name else ""
            if missing := set(about["arrays"]) - arrays.keys():  # zip has no checksum of its list of files
                raise ValueError(f"it has no {', '.join(sorted(missing))}")
        except FileNotFoundError:
            return False
        except Exception as error:  # a damaged file can fail in any of the layers that read it
            say(f"{self._path(name)} is damaged ({error}): what it held is trained again")
            return False
        if other:
            say(f"{self._path(name)} is of another {other}: what it held is trained again")
        return not other

    def keep(self, name: str, arrays: Arrays) -> None:
        words = {"run": self._run, "name": name, "arrays": [*arrays], "provenance": self._made}
        about = np.array(json.dumps(words, sort_keys=True))

        def content(file: BinaryIO) -> None:
            np.savez(file, about=about, **arrays)  # type: ignore[arg-type]

        self.writing(lambda: files.write(self._path(name), content, prefix=f"{self.index}-"))

    @cached_property
    def _made(self) -> dict[str, Any]:
        """How this process makes outcomes, which is known once an engine was chosen."""
        return provenance.provenance(self.engine)

    def read(self, name: str, fields: Sequence[str]) -> Arrays:
        try:
            found = files.arrays(self._path(name), fields)
            return {field: found[field] for field in fields}
        except FileNotFoundError:
            raise self._removed() from None
        except Exception as error:
            again = "the same command trains it again"
            raise ValueError(f"{self._path(name)} was damaged during the run ({error}); {again}") from error

    def remember(self, **found: Any) -> None:
        vars(self).update(found)
        if "shape" in found and self.index > 0:
            return  # process 0 decided it
        command = provenance.command(("--restart",))
        state = {"config": self._config, "command": command, "shape": self.shape, "room": self.room}
        self.writing(lambda: manifest.write(self.folder, state))

    def provenances(self) -> list[dict[str, Any]]:
        """Return how the outcomes were made, each way once."""
        all_words = (json.loads(str(self.read(path.stem, ["about"])["about"])) for path in self.folder.glob(CHUNKS))
        found = {json.dumps(words["provenance"], sort_keys=True) for words in all_words}
        return [json.loads(text) for text in sorted(found)]

    @property
    def _run(self) -> str:
        """The checksum that distinguishes this run's outcomes from those of another in the same place."""
        return manifest.checksum([self._config, self.shape])

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    # --- interruptions and other processes

    def stopping(self) -> bool:
        return self._requests.number is not None

    def stopped(self, progress: str) -> BaseException:
        assert self._requests.number is not None
        return Interrupted(self._requests.number, f"stopped. {progress}; {how_to_continue()}")

    def others(self, names: Sequence[str], tell: Callable[[str], None]) -> None:
        waiting = [*names]
        while waiting := [name for name in waiting if not self._path(name).exists()]:
            if self.stopping():
                raise self.stopped(f"{len(names) - len(waiting)} of {len(names)} chunks are saved")
            if not self.folder.exists():
                raise self._removed()
            if self.processes == 1:
                raise self._removed(waiting[0])
            theirs = sorted({names.index(name) % self.processes for name in waiting})
            tell(f"waiting for process {', '.join(map(str, theirs))}")
            sleep(WAIT_S)

    def writing(self, write: Callable[[], None]) -> None:
        """Write, with errors of the disk in the user's words."""
        try:
            write()
        except FileNotFoundError as error:
            raise self._removed() from error
        except OSError as error:
            why = error.strerror or str(error)
            raise OSError(
                f"cannot save in {self.folder}: {why}. What was saved before is safe; {how_to_continue()}"
            ) from error

    def _removed(self, name: str = "") -> OSError:
        what = self._path(name) if name else self.folder
        return FileNotFoundError(f"{what} was removed during the run, with what was trained")

    def remove(self) -> None:
        """Remove the run."""
        _remove(self.folder)


def discard(folder: Path) -> None:
    """Remove a run that nobody is at work on. Raises ValueError if somebody is."""
    if folder.exists():
        lock = _locked(folder, LOCK)
        try:
            _remove(folder)
        finally:
            lock.release()


def _remove(folder: Path) -> None:
    """Remove its files, the locks at last."""
    chunks, locks = folder.glob(CHUNKS), folder.glob(f"{LOCK}*")
    for path in [manifest.path(folder), *chunks, *files.unfinished(folder), *locks]:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # where there are files that are not ours
        folder.rmdir()


def _locked(folder: Path, name: str, shared: bool = False) -> Held:
    try:
        return Held(folder / name, shared)
    except BlockingIOError as error:
        raise ValueError(f"the run in {folder} is in progress already, by {error}") from None


def refuse_other(there: Mapping[str, Any], here: Mapping[str, Any], what: str) -> None:
    """Raise ValueError, with the fields that differ, unless two configurations are the same."""
    fields = differences(there, json.loads(json.dumps(here)))  # as it comes back from a file
    if fields:
        raise ValueError(f"{what} is of another configuration: {'; '.join(fields)}. restart=True discards it")


def how_to_continue() -> str:
    command = provenance.command(("--restart",))
    return f"continue with: {command}" if command else "the same call continues it"
