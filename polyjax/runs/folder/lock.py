"""Locks that keep processes out of each other's folders, and that a process that dies leaves by itself."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where folders are not locked
    fcntl = None  # type: ignore[assignment]

TRIES, TRY_S = 3, 0.05
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems without locks


class Held:
    """A lock on a file, of this process alone or shared with others, until `release` or the end of the process.
    Raises BlockingIOError, with the holder's name where it is known, if others hold it."""

    def __init__(self, path: Path, shared: bool = False) -> None:
        while True:
            self._file: IO[str] = open(path, "a+")  # noqa: SIM115
            try:
                self._lock(shared)
            except BaseException:
                self._file.close()
                raise
            if _same(path, self._file):
                break
            self._file.close()  # the run that held it has ended and removed it
        if not shared:
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()

    def _lock(self, shared: bool) -> None:
        if fcntl is None:
            return
        kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        try:
            for _ in range(TRIES - 1):
                with suppress(BlockingIOError):
                    return fcntl.flock(self._file, kind)
                sleep(TRY_S)  # `held` may look just now
            fcntl.flock(self._file, kind)
        except BlockingIOError:
            self._file.seek(0)
            raise BlockingIOError(self._file.read() or "another process") from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise

    def release(self) -> None:
        self._file.close()


def held(path: Path) -> bool:
    """Say whether a living process holds the lock."""
    try:
        with open(path, "r+") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _same(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
