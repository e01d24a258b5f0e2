"""Locks that keep processes out of each other's folders, and that a process that dies leaves by itself."""

import errno
import os
import socket
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where folders are not locked
    fcntl = None  # type: ignore[assignment]

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems without locks


class Held:
    """A lock on a file, of this process alone, until `release` or the end of the process. Raises BlockingIOError, with
    the holder's name where it is known, if another holds it."""

    def __init__(self, path: Path) -> None:
        while True:
            self._file: IO[str] = open(path, "a+")  # noqa: SIM115
            try:
                self._lock()
            except BaseException:
                self._file.close()
                raise
            if _same(path, self._file):
                break
            self._file.close()  # the run that held it has ended and removed it
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            raise BlockingIOError(self._file.read() or "another process") from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise

    def release(self) -> None:
        self._file.close()


def _same(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
