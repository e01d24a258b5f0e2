"""Random sequences of calls that are killed, under settings that change from one to the next: what ends with exit
code 0 is right."""

import random
import subprocess
from itertools import product

import pytest
from harness import OUT, end, numbers, two_at_a_time

RUN = OUT.with_suffix(".run").name
CONFIGURATIONS = ((), ("--seed", 7), ("--steps", 150))
SURROUNDINGS = (
    *[()] * 4,
    ("env", "JAX_DEFAULT_PRNG_IMPL=rbg", "JAX_RANDOM_SEED_OFFSET=1"),
    ("env", "XLA_FLAGS=--xla_force_host_platform_device_count=1"),
    ("env", "JAX_THREEFRY_PARTITIONABLE=0"),
    ("env", "JAX_ENABLE_X64=1"),
    ("taskset", "-c", "0"),
)
MOMENTS = (
    *[""] * 4,  # at a random time
    f"half {RUN}/train- 9",
    f"os.rename {RUN}/retry1- 2",
    f"os.rename {RUN}/refine1- 3",
    "os.rename manifest.json 1",
    f"os.rename {OUT.name} 2",
    "os.remove manifest.json 1",
    f"os.remove {RUN}/train- 5",
    f"os.remove {RUN}/lock 1",
)
SEEDS = [range(first, first + 20) for first in range(4, 104, 20)]


@pytest.fixture(scope="module")
def right(new_place, edited):
    """The checksums of undisturbed runs, by configuration and code."""
    found = {}

    def run(case):
        configuration, is_edited = case
        place = new_place()
        place.code = edited if is_edited else place.code
        assert place.sweep(*configuration).code == 0
        found[case] = numbers(place.file)

    two_at_a_time(run, product(CONFIGURATIONS, (False, True)))
    assert len({*found.values()}) == len(found)
    return found


class Sequence:
    """Calls in one folder, as a careless user would make them."""

    def __init__(self, seed, place, edited, right, seconds):
        self.rng, self.place, self.right, self.seconds = random.Random(seed), place, right, seconds
        self.code = {False: place.code, True: edited}

    def call(self):
        """One call, or two at the same time, of which the other may be the one that wrote; perhaps killed."""
        started = [self._start() for _ in range(1 + (self.rng.random() < 0.2))]
        ended, allowed = [], set()
        for process, configuration, is_edited in started:
            try:
                process.wait(self.rng.uniform(0.2, 1.3) * self.seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            ended.append(end(process))
            # A results file is its configuration's, by whichever code it was finished.
            codes = (False, True) if "is there already" in ended[-1].text else (is_edited,)
            allowed |= {self.right[configuration, code] for code in codes}
        for each in ended:
            assert each.code in (-9, 0, 2), each.text
            assert "Traceback" not in each.text, each.text
            assert each.code != 2 or len(each.lines) == 1, each.text
        if any(each.code == 0 for each in ended) and (len(ended) == 1 or self.place.file.exists()):
            assert numbers(self.place.file) in allowed

    def _start(self):
        rng = self.rng
        configuration, is_edited = rng.choice(CONFIGURATIONS), rng.random() < 0.2
        words = configuration + ("--restart",) * (rng.random() < 0.3)
        fault = rng.choice(MOMENTS)
        self.place.code = self.code[is_edited]
        options = {"within": rng.choice(SURROUNDINGS), "fault": fault and f"{fault} SIGKILL"}
        return self.place.start_sweep(*words, **options), configuration, is_edited

    def finish(self):
        """The call of a user who wants results now. Return how it ended at first."""
        self.place.code, outcome = self.code[False], "right"
        ended = end(self.place.start_sweep())
        if ended.code != 0:
            assert (ended.code, len(ended.lines)) == (2, 1), ended.text
            ended, outcome = end(self.place.start_sweep("--restart")), "one line, then right"
        assert ended.code == 0, ended.text
        codes = (False, True) if "is there already" in ended.text else (False,)
        assert numbers(self.place.file) in {self.right[(), code] for code in codes}
        assert [path.name for path in self.place.results.iterdir()] == [OUT.name]
        return outcome


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_whatever_ends_with_exit_code_0_is_right(judged, expected, new_place, edited, right, seeds):
    judge = judged("random calls under changing settings, killed")

    def one(seed):
        sequence = Sequence(seed, new_place(), edited, right, expected.seconds)
        for _ in range(sequence.rng.randint(2, 4)):
            sequence.call()
        judge.count(sequence.finish())

    two_at_a_time(one, seeds)
