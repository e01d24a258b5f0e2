"""A run in progress on disk: a folder of chunk files beside a manifest, so that nothing trained is lost.

Every file is whole or not there, and one process writes. Chunk files are `.npz` that load without pickles; their
checksums are zip's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from polyjax import files
from polyjax.differences import differences
from polyjax.runs import provenance
from polyjax.runs.folder import manifest
from polyjax.runs.folder.lock import Held
from polyjax.runs.progress import say

if TYPE_CHECKING:
    from polyjax.runs.store import Arrays

LOCK = "lock"
CHUNKS = "[a-z]*-[0-9][0-9][0-9][0-9][0-9][0-9]*.npz"  # of all stages (see `store.names`)


def folder(path: Path) -> Path:
    """Return the folder of the run that makes the results file `path`."""
    return path.with_suffix(".run")


class Directory:
    """A store (see `store.Store`) in a folder. Enter it to make the folder and hold its lock."""

    shape: tuple[int, int] | None = None
    room: int | None = None

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self._config = config
        self._made: set[str] = set()  # how outcomes were made that this run uses
        self._checksums: dict[tuple[int, int] | None, str] = {}  # of this run, by its shape: every outcome has it

    def __enter__(self) -> Directory:
        """Raises ValueError where another process is at work here."""
        files.make_folder(self.folder.parent)
        self._writing(self._hold)
        return self

    def _hold(self) -> None:
        self._lock = _held(self.folder)

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def begin(self) -> None:
        """Take up the run that is here, if there is one. Raises ValueError where it is of another configuration."""
        for left in files.unfinished(self.folder):
            left.unlink(missing_ok=True)
        if manifest.path(self.folder).exists():
            found = manifest.read(self.folder)
            refuse_other(found["config"], self._config, f"the run in {self.folder}")
            self._refuse_other_code(found.get("code") or {})
            self.shape, self.room = tuple(found["shape"]), found["room"]

    def _refuse_other_code(self, code: Mapping[str, Any]) -> None:
        """Raise ValueError where the run was begun by other code than this, whose chunks would be mixed with these."""
        if code.get("source") != provenance.code():
            began, here = (revision or "of no revision" for revision in (code.get("revision"), provenance.revision()))
            what = f"the run in {self.folder} was begun by other code of polyjax ({began}) than this ({here})"
            raise ValueError(f"{what}: go on with that code, or restart=True discards the run")

    # --- outcomes

    def kept(self, name: str) -> bool:
        try:
            arrays = files.arrays(self._path(name))
            about = json.loads(str(arrays.pop("about")))
            made = json.dumps(about["provenance"], sort_keys=True)
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
            return False
        self._made.add(made)
        return True

    def keep(self, name: str, arrays: Arrays, made: Mapping[str, Any]) -> None:
        words = {"run": self._run, "name": name, "arrays": [*arrays], "provenance": made}
        about = np.array(json.dumps(words, sort_keys=True))

        def content(file: BinaryIO) -> None:
            np.savez(file, about=about, **arrays)  # type: ignore[arg-type]

        self._writing(lambda: files.write(self._path(name), content))
        self._made.add(json.dumps(made, sort_keys=True))

    def read(self, name: str, fields: Sequence[str]) -> Arrays:
        try:
            found = files.arrays(self._path(name), fields)
            return {field: found[field] for field in fields}
        except FileNotFoundError:
            raise self._removed(self._path(name)) from None
        except Exception as error:
            again = "the same command trains it again"
            raise ValueError(f"{self._path(name)} was damaged during the run ({error}); {again}") from error

    def remember(self, **found: Any) -> None:
        vars(self).update(found)
        command = provenance.command(("--restart",))
        state = {"config": self._config, "command": command, "shape": self.shape, "room": self.room}
        state["code"] = {"source": provenance.code(), "revision": provenance.revision()}
        self._writing(lambda: manifest.write(self.folder, state))

    def provenances(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in sorted(self._made)]

    @property
    def _run(self) -> str:
        """The checksum that distinguishes this run's outcomes from those of another in the same place."""
        if self.shape not in self._checksums:
            self._checksums[self.shape] = manifest.checksum([self._config, self.shape])
        return self._checksums[self.shape]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    # --- the end

    def finish(self, write: Callable[[Path], None]) -> None:
        """Have the results file written, by way of this folder, and remove the run."""
        self._writing(lambda: write(self.folder))
        self.remove()

    def remove(self) -> None:
        """Remove the run."""
        _remove(self.folder)

    def _writing(self, write: Callable[[], None]) -> None:
        """Write, with errors of the disk in the user's words."""
        try:
            write()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self.folder.exists():
                raise self._removed(self.folder) from error
            why = error.strerror or str(error)
            safe = f"What was saved before is safe; {provenance.how_to_continue()}"
            raise OSError(f"cannot save in {self.folder}: {why}. {safe}") from error

    @staticmethod
    def _removed(what: Path) -> OSError:
        return FileNotFoundError(f"{what} was removed during the run, with what was trained")


def discard(folder: Path) -> None:
    """Remove a run that nobody is at work on. Raises ValueError if somebody is."""
    if folder.exists():
        lock = _held(folder)
        try:
            _remove(folder)
        finally:
            lock.release()


def _remove(folder: Path) -> None:
    """Remove its files: the manifest, which says whose the chunks are, after them, and the lock at last."""
    for path in [*folder.glob(CHUNKS), *files.unfinished(folder), manifest.path(folder), folder / LOCK]:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # where there are files that are not ours
        folder.rmdir()


def _held(folder: Path) -> Held:
    """Return the lock of a folder, which is made where it is not there."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return Held(folder / LOCK)
        except BlockingIOError as error:
            raise ValueError(f"the run in {folder} is in progress already, by {error}") from None
        except FileNotFoundError:  # removed since by the process that held it: its run has ended
            continue


def refuse_other(there: Mapping[str, Any], here: Mapping[str, Any], what: str) -> None:
    """Raise ValueError, with the fields that differ, unless two configurations are the same."""
    fields = differences(there, json.loads(json.dumps(here)))  # as it comes back from a file
    if fields:
        raise ValueError(f"{what} is of another configuration: {'; '.join(fields)}. restart=True discards it")
