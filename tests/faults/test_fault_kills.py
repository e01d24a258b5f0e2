"""Processes that are killed, as by a power cut or for want of memory."""

import random
import subprocess

import pytest
from harness import OUT, end, two_at_a_time

RUN = OUT.with_suffix(".run")
MOMENTS = {  # right before an event: which, a part of the path, how many of them
    "the first chunk half written": ("half", "train-", 1),
    "a chunk half written": ("half", "train-", 9),
    "a chunk not yet renamed": ("os.rename", "train-", 9),
    "a retry half written": ("half", "retry1-", 3),
    "a look at neighbours half written": ("half", "look1-", 5),
    "a refined chunk half written": ("half", "refine1-", 5),
    "a refined chunk not yet renamed": ("os.rename", "refine1-", 6),
    "the manifest half written": ("half", "manifest.json", 1),
    "the manifest not yet renamed": ("os.rename", "manifest.json", 1),
    "the results file half written": ("half", OUT.name, 1),
    "the file's place being tried": ("os.rename", OUT.name, 1),
    "the results file not yet renamed": ("os.rename", OUT.name, 2),
    "the results file renamed": ("os.remove", RUN / "manifest.json", 1),
    "chunks being removed": ("os.remove", RUN / "train-", 5),
    "the lock being removed": ("os.remove", RUN / "lock", 1),
    "the folder being removed": ("os.rmdir", RUN, 1),
}


@pytest.mark.slow
def test_runs_that_are_killed_again_and_again_end_as_if_undisturbed(judged, expected, new_place):
    judge = judged("kill -9 at a random moment")

    def kill_ten_times(seed):
        rng, place, kills, pending = random.Random(seed), new_place(), 10, 0
        while kills or pending:
            process = place.start_sweep()
            try:
                process.wait(rng.uniform(0, expected.seconds) if kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
            ended = end(process)
            if ended.code == -9:
                kills, pending = kills - 1, pending + 1
                continue
            judge.correct(place, ended, times=pending)
            place.file.unlink()
            pending = 0

    two_at_a_time(kill_ten_times, range(2))


def test_a_kill_at_the_worst_moment_changes_nothing(judged, new_place):
    def kill(moment):
        event, text, k = MOMENTS[moment]
        place = new_place()
        assert place.sweep(fault=f"{event} {text} {k} SIGKILL").code == -9
        judged(f"kill -9 with {moment}").correct(place, place.sweep())

    two_at_a_time(kill, MOMENTS)
