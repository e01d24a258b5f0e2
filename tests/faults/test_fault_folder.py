"""Folders that are deleted under the run."""

import random
import subprocess
from time import monotonic

import pytest
from harness import OUT, THEN_CORRECT, digest, end, two_at_a_time, wait_until


def delete(place, folder, how):
    """Moved away, at once; or by `rm`, file by file, which what is written meanwhile may escape."""
    if how == "rm":
        subprocess.run(["rm", "-rf", folder], capture_output=True)
    elif folder.exists():
        folder.rename(place.folder / "gone")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved away", "rm"])
@pytest.mark.parametrize("what", ["run", "results"])
def test_a_folder_that_is_deleted_during_the_run_is_told_in_one_line(judged, expected, new_place, what, how):
    judge = judged(f"{OUT.with_suffix('.run') if what == 'run' else f'{OUT.parent}/'} deleted during the run")

    def one(seed):
        place, moment = new_place(), random.Random(seed).uniform(0.4, 0.9) * expected.seconds
        process, start = place.start_sweep(), monotonic()
        wait_until(lambda: monotonic() - start > moment, process)
        delete(place, getattr(place, what), how)
        ended = end(process)
        if ended.code != 0:
            judge.one_line(ended, OUT.with_suffix(".run"), "was removed")
            judge.correct(place, place.sweep(), THEN_CORRECT)
        elif place.file.exists():
            judge.correct(place, ended)
        else:  # the file was whole when it was deleted
            assert what == "results"
            assert all(digest(file) == expected.digest for file in place.folder.glob(f"*/{OUT.name}"))
            judge.count("correct before")

    two_at_a_time(one, range(3))
