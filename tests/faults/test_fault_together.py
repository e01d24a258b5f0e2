"""Processes that are started on the same results file, and locks that are left behind."""

from time import sleep

import pytest
from harness import OUT, Ended, digest, end


def has_trained(ended: Ended) -> bool:
    return ended.code == 0 and not any("is there already" in line for line in ended.lines)


@pytest.mark.slow
def test_of_two_processes_one_trains_and_the_other_does_not(judged, expected, new_place):
    judge = judged("two processes on one file")
    for delay in (0, 0, 0, 0.02, 0.3, 0.6, 0.9, 1.0):
        place = new_place()
        first = place.start_sweep()
        sleep(delay * expected.seconds)
        one, other = sorted((end(process) for process in (place.start_sweep(), first)), key=has_trained)
        assert not has_trained(one)
        if one.code == 0:
            judge.correct(place, other, "one correct, the other finds its file")
        else:
            judge.one_line(one, "is in progress already, by")
            judge.correct(place, other, "one correct, the other one line")


@pytest.mark.slow
def test_chunks_of_a_run_that_was_half_removed_are_never_those_of_another(judged, expected, new_place):
    judge, seed = judged("two processes on what is left of another run, half removed"), ("--seed", 7)
    run = f"{OUT.stem}.run"
    for event in (f"os.remove {run}/train- 5", "os.remove manifest.json 1", f"os.remove {run}/lock 1"):
        place = new_place()
        assert place.sweep(*seed, fault=f"os.rename {OUT.name} 2 SIGKILL").code == -9
        assert place.sweep(*seed, "--restart", fault=f"{event} SIGKILL").code == -9
        both = [place.start_sweep() for _ in range(2)]
        for ended in map(end, both):
            if ended.code != 0:  # the other is at work, or the manifest says whose chunks they are
                assert len(ended.lines) == 1
                assert "is in progress already, by" in ended.text or "seed (7 there, 0 here)" in ended.text
            else:
                assert digest(place.file) == expected.digest
        ended = place.sweep("--restart")
        judge.correct(place, ended, "one line each or correct, then correct")


def test_a_lock_of_a_dead_process_does_not_matter(judged, new_place, trained):
    place = new_place().copied(trained)
    (place.run / "lock").write_text("process 4194305 on another host")
    judged("a lock of a dead process").correct(place, place.sweep())
