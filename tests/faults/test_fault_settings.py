"""Runs that are continued under other settings of the machine, of JAX, or by other code: the same bits, or one line."""

import shutil

import pytest
from harness import OUT, THEN_CORRECT, end, numbers, two_at_a_time

TASKSET = shutil.which("taskset")
HARMLESS = {
    "JAX's random settings": ("env", "JAX_DEFAULT_PRNG_IMPL=rbg", "JAX_RANDOM_SEED_OFFSET=1"),
    "the variables of SLURM, without a rank": ("env", "SLURM_JOB_ID=7", "SLURM_NTASKS=2", "SLURM_JOB_NODELIST=a,b"),
    "one core": ("taskset", "-c", "0"),
}
REFUSED = {
    "JAX_THREEFRY_PARTITIONABLE=0": "JAX_THREEFRY_PARTITIONABLE",
    "JAX_ENABLE_X64=1": "JAX_ENABLE_X64 must be false",
    "JAX_PLATFORMS=none": "JAX_PLATFORMS must name devices that are here",
}
HALF_WAY = f"os.rename {OUT.with_suffix('.run').name}/train- 9 SIGKILL"


def test_other_settings_change_no_bit(judged, new_place):
    def resume(name):
        if name == "one core" and not TASKSET:
            return
        place = new_place()
        assert place.sweep(fault=HALF_WAY).code == -9
        judged(f"continued with {name}").correct(place, place.sweep(within=HARMLESS[name]))

    two_at_a_time(resume, HARMLESS)


def test_settings_that_would_change_bits_are_refused_in_one_line(judged, new_place):
    def resume(setting):
        place, judge = new_place(), judged(f"continued with {setting}")
        assert place.sweep(fault=HALF_WAY).code == -9
        judge.one_line(place.sweep(within=("env", setting)), REFUSED[setting])
        judge.correct(place, place.sweep(), THEN_CORRECT)

    two_at_a_time(resume, REFUSED)


def test_a_run_is_not_continued_by_edited_code(judged, new_place, trained, edited):
    place, judge = new_place().copied(trained), judged("continued by edited code")
    code, place.code = place.code, edited
    judge.one_line(place.sweep(), "code", "--restart")
    place.code = code
    judge.correct(place, place.sweep(), THEN_CORRECT)


@pytest.mark.parametrize(
    "name", ["._train-000001.npz", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mine-0.npz", "notes.txt"))]
)
def test_files_of_others_in_the_folder_of_a_run_are_left_alone(judged, new_place, trained, name):
    place, judge = new_place().copied(trained), judged("a file of somebody else's in the folder of a run")
    (place.run / name).write_text("mine")
    assert place.sweep().code == 0
    assert (place.run / name).read_text() == "mine"
    shutil.rmtree(place.run)
    judge.correct(place, place.sweep(), "correct, and the file left alone")


def test_a_results_file_with_the_longest_name_there_is(judged, new_place):
    place, name = new_place(), f"{'r' * 251}.npz"
    assert end(place.start("--out", OUT.with_name(name))).code == 0
    found = numbers(place.results / name)
    (place.results / name).unlink()
    judged("a file name of 255 characters").correct(place, place.sweep())
    assert found == numbers(place.file)
