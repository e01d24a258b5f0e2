"""Python imports this before anything else: it does to its own process what FAULT says.

FAULT="limit BYTES"         no file can grow any longer, as on a full disk
FAULT="EVENT TEXT K SIGNAL" the signal, right before the K-th event whose path holds the text. Events are Python's
                            (os.rename, os.remove, os.rmdir, os.mkdir), and "half": a file that is half written.
"""

import os
import signal
import sys
from itertools import count

_forced_to_the_disk = os.fsync


def limit(size):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def signal_at(event, text, k, number):
    seen = count(1)

    def is_due(path):
        return text in path and next(seen) == k

    def audit(name, arguments):
        if name == event and is_due(" ".join(map(str, arguments))):
            os.kill(os.getpid(), number)

    def half(file):
        if is_due(os.readlink(f"/proc/self/fd/{file}")):
            os.ftruncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), number)
        _forced_to_the_disk(file)

    if event == "half":
        os.fsync = half
    else:
        sys.addaudithook(audit)


match os.environ["FAULT"].split():
    case ["limit", size]:
        limit(int(size))
    case [event, text, k, number]:
        signal_at(event, text, int(k), signal.Signals[number])
