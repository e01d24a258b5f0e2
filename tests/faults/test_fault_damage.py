"""Chunks that are damaged between an interruption and the continuation."""

import io
import json
import pickle
import random
import shutil

import numpy as np
import pytest
from harness import OUT, STAGES, two_at_a_time
from traps import Trap

from polyjax.runs.folder.directory import Directory

LENGTHS = (0, 1, 21, 22, 100, 0.1, 0.3, 0.5, 0.7, 0.9, -22, -1)  # bytes; of the whole, if fractions; off the end


@pytest.fixture(scope="module")
def of_another_seed(new_place):
    place = new_place()
    assert place.sweep("--seed", 1, fault=f"os.rename {OUT.name} 2 SIGKILL").code == -9
    return place


def some_chunks(place, each=4):
    """Chunks of every stage, the same ones every time."""
    rng = random.Random(0)
    return [path for stage in STAGES for path in rng.sample(place.chunks(stage), len(place.chunks(stage)))[:each]]


def test_chunks_that_are_cut_off_are_trained_again(judged, new_place, trained):
    judge = judged("a chunk cut off")

    def cut(shift):
        place = new_place().copied(trained)
        chunks = some_chunks(place)
        for i, path in enumerate(chunks):
            size, length = path.stat().st_size, LENGTHS[(i + shift) % len(LENGTHS)]
            path.write_bytes(path.read_bytes()[: int(size * length) if isinstance(length, float) else length])
        judge.correct(place, place.sweep(), times=len(chunks))

    two_at_a_time(cut, (0, 5))


def test_chunks_with_a_byte_flipped_are_trained_again(judged, new_place, trained):
    judge = judged("a byte of a chunk flipped")

    def flip(seed):
        rng, place = random.Random(seed), new_place().copied(trained)
        chunks = some_chunks(place, each=16)
        for path in chunks:
            data = bytearray(path.read_bytes())
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
            path.write_bytes(data)
        judge.correct(place, place.sweep(), times=len(chunks))

    two_at_a_time(flip, range(4))


def test_no_flipped_bit_passes_for_a_chunk_with_other_values(new_place, trained):
    """Not even in the names, shapes and types, where zip and numpy believe what they read."""
    place, rng = new_place().copied(trained), random.Random(0)
    path = place.chunks("train")[0]
    with Directory(place.run, json.loads(place.manifest.read_text())["config"]) as store:
        # As large as chunks are in earnest: of arrays in a single buffer the checksum is always looked at.
        larger = {name: np.repeat(a, 64, axis=0) for name, a in np.load(path).items() if name != "about"}
        store.keep(path.stem, larger, {})
        whole = path.read_bytes()
        headers = [at + i for at in range(len(whole)) if whole.startswith(b"\x93NUMPY", at) for i in range(128)]
        flips = [(at, bit) for at in headers for bit in range(8)]
        for at, bit in flips + [(at, rng.randrange(8)) for at in rng.choices(range(len(whole)), k=1000)]:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            if store.kept(path.stem):
                found = store.read(path.stem, larger)
                assert all(found[name].dtype == larger[name].dtype for name in larger)
                assert all(np.array_equal(found[name], larger[name]) for name in larger)


@pytest.mark.parametrize("share", ["some", "all"])
def test_chunks_of_another_run_are_trained_again(judged, new_place, trained, of_another_seed, share):
    place = new_place().copied(trained)
    chunks = some_chunks(place) if share == "some" else place.chunks()
    foreign = [path for path in chunks if (of_another_seed.run / path.name).exists()]
    for path in foreign:
        shutil.copy(of_another_seed.run / path.name, path)
    judged("a chunk of another run copied in").correct(place, place.sweep(), times=len(foreign))


def test_chunks_that_have_changed_places_are_trained_again(judged, new_place, trained):
    place = new_place().copied(trained)
    for stage in STAGES:
        first, *_, last = place.chunks(stage)
        shutil.copy(first, last)
    judged("a chunk in the place of another").correct(place, place.sweep(), times=len(STAGES))


@pytest.mark.parametrize("form", ["bare", "field", "about"])
def test_a_pickle_that_looks_like_a_chunk_is_never_unpickled(judged, new_place, trained, form):
    place = new_place().copied(trained)
    chunks, trap = some_chunks(place), np.array([Trap(place)], object)
    for path in chunks:
        fields, data = dict(np.load(path)), io.BytesIO()
        changed = {"about": trap} if form == "about" else {max(fields): trap}
        np.savez(data, **fields | changed)
        path.write_bytes(pickle.dumps(Trap(place)) if form == "bare" else data.getvalue())
    judged("a pickle that looks like a chunk").correct(place, place.sweep(), times=len(chunks))
