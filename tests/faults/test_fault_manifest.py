"""Manifests that are damaged, or of something else."""

import json

import pytest
from harness import THEN_CORRECT, two_at_a_time


def changed(**fields):
    """The text with other fields, without those that are `...`."""
    return lambda text: json.dumps({k: v for k, v in (json.loads(text) | fields).items() if v is not ...})


DAMAGED = {
    "of format 1": (changed(format=1), "format 1"),
    "of format 99": (changed(format=99), "format 99"),
    "of no format": (changed(format=...), "is damaged"),
    "truncated": (lambda text: text[: len(text) // 2], "is damaged"),
    "empty": (lambda text: "", "is damaged"),
    "not JSON": (lambda text: "PK\x03\x04", "is damaged"),
    "a list": (lambda text: "[1, 2]", "is damaged"),
    "without a configuration": (changed(config=...), "is damaged"),
    "without its shape": (changed(shape=...), "is damaged"),
    "with chunks of another size": (lambda text: text.replace('"shape": [\n  1,', '"shape": [\n  2,'), "is damaged"),
    "with empty chunks": (changed(shape=[0, 16]), "is damaged"),
    "with a configuration of a wrong type": (changed(config=[]), "is damaged"),
}


@pytest.mark.slow
def test_a_damaged_manifest_is_refused_until_the_run_is_discarded(judged, new_place, trained):
    judge = judged("a manifest damaged, or of another version")

    def damage(kind):
        place, (change, told) = new_place().copied(trained), DAMAGED[kind]
        place.manifest.write_text(change(place.manifest.read_text()))
        judge.one_line(place.sweep(), place.manifest.name, told, "--restart")
        assert len(place.chunks()) == len(trained.chunks())
        judge.correct(place, place.sweep("--restart"), THEN_CORRECT)

    two_at_a_time(damage, DAMAGED)


def test_a_run_of_another_configuration_is_refused_until_it_is_discarded(judged, new_place, trained):
    place, judge = new_place().copied(trained), judged("a run of another configuration")
    told = "seed (0 there, 1 here)", "steps (200 there, 500 here)", "--restart"
    for _ in range(2):  # first in the run, then in the results
        judge.one_line(place.sweep("--seed", 1, "--steps", 500), *told)
        judge.correct(place, place.sweep(), THEN_CORRECT)
    assert place.sweep("--seed", 1, "--restart").code == 0
    judge.one_line(place.sweep(), "seed (1 there, 0 here)", "--restart")
    judge.correct(place, place.sweep("--restart"), THEN_CORRECT)


def test_a_run_whose_manifest_is_lost_is_continued(judged, new_place, trained):
    place = new_place().copied(trained)
    place.manifest.unlink()
    judged("a manifest lost").correct(place, place.sweep())
