"""Disks that are full, or cannot be written to."""

import os
import subprocess
from contextlib import contextmanager

import pytest
from harness import OUT, THEN_CORRECT, end, two_at_a_time, wait_until

RUN = OUT.with_suffix(".run")
PAGE = 4096
FILES = ("the lock", "the manifest", "a chunk", "the results file")
# Permissions mean nothing to root, unless these are taken away.
ALL_FOLDERS = "-dac_override,-dac_read_search"


def size_without(trained, what):
    """Bytes that are too few for a file, and enough for those that are written before it."""
    return {
        "the lock": 5,
        "the manifest": trained.manifest.stat().st_size - 1,
        "a chunk": max(path.stat().st_size for path in trained.chunks("train")) - 1,
        "the results file": max(path.stat().st_size for path in trained.chunks()),
    }[what]


def pages_without(trained, what):
    """Pages of a file system, likewise."""
    run = [trained.run / "lock", trained.manifest, *trained.chunks()]
    each = [-(-path.stat().st_size // PAGE) for path in run]
    return {"the lock": 1, "the manifest": sum(each[:1]), "a chunk": sum(each[:9]), "the results file": sum(each)}[what]


@contextmanager
def mounted(folder, options):
    """A small file system in a folder; the test is skipped where that is not allowed."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def as_user():
    """What to start a process within so that permissions matter to it."""
    if os.geteuid() != 0:
        return []
    within = ["setpriv", "--bounding-set", ALL_FOLDERS]
    if subprocess.run([*within, "true"], capture_output=True).returncode != 0:
        pytest.skip("root cannot give up its privileges here")
    return within


def test_a_file_that_cannot_grow_is_told_in_one_line(judged, new_place, trained):
    judge = judged("a file that cannot grow")

    def limit(what):
        place = new_place()
        judge.one_line(place.sweep(fault=f"limit {size_without(trained, what)}"), RUN, "File too large")
        judge.correct(place, place.sweep(), THEN_CORRECT)

    two_at_a_time(limit, FILES)


def test_a_full_disk_is_told_in_one_line(judged, new_place, trained):
    judge = judged("a full disk")

    def fill(what):
        place = new_place()
        other = place.results / "something else"
        with mounted(place.results, f"size={pages_without(trained, what) * PAGE}") as remount:
            other.write_bytes(bytes(PAGE if what == "the lock" else 0))
            judge.one_line(place.sweep(), RUN, "No space left on device")
            other.unlink()
            remount("size=64m")
            judge.correct(place, place.sweep(), THEN_CORRECT)

    two_at_a_time(fill, FILES)


def test_a_file_system_that_is_mounted_read_only_is_told_in_one_line(judged, new_place, trained):
    place, judge = new_place(), judged("a read-only file system")
    with mounted(place.results, "size=64m") as remount:
        place.copied(trained)
        remount("ro")
        judge.one_line(place.sweep(), OUT, "Read-only file system")
        remount("rw")
        judge.correct(place, place.sweep(), THEN_CORRECT)


@pytest.mark.parametrize("folder", ["results", "run"])
def test_a_folder_that_is_read_only_is_told_in_one_line(judged, new_place, as_user, folder):
    place, judge = new_place(), judged("a read-only folder")
    locked = getattr(place, folder)
    locked.mkdir(exist_ok=True)
    locked.chmod(0o555)
    judge.one_line(place.sweep(within=as_user), OUT.parent, "Permission denied")
    locked.chmod(0o755)
    judge.correct(place, place.sweep(within=as_user), THEN_CORRECT)


@pytest.mark.parametrize("folder", ["results", "run"])
def test_a_folder_that_becomes_read_only_during_the_run_is_told_in_one_line(judged, new_place, as_user, folder):
    place, judge = new_place(), judged("a folder read-only from the middle of the run")
    process = place.start_sweep(within=as_user)
    wait_until(lambda: len(place.chunks("train")) > 2, process)
    getattr(place, folder).chmod(0o555)
    judge.one_line(end(process), f"cannot save in {RUN}: Permission denied")
    getattr(place, folder).chmod(0o755)
    judge.correct(place, place.sweep(within=as_user), THEN_CORRECT)
