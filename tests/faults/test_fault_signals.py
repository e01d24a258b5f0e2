"""Ctrl-C and SIGTERM: what is saved, what is told, and how the run goes on."""

import re
import shlex
from signal import Signals
from time import monotonic, sleep

import pytest
from harness import OUT, THEN_CORRECT, end, two_at_a_time, wait_until

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}
ENDINGS = {"SIGINT": 130, "SIGTERM": -15}  # where SIGTERM ends the process itself; shells make 143 of it


@pytest.mark.parametrize("signal", EXIT_CODES)
def test_an_interrupted_run_says_what_is_saved_and_how_to_go_on(judged, new_place, signal):
    judge = judged(f"{signal} in each stage, then the command it told")

    def interrupt(chunk):
        place = new_place()
        ended = place.sweep(fault=f"os.rename {chunk} {signal}")
        judge.one_line(ended, "chunks are saved", code=EXIT_CODES[signal])
        line = ended.lines[-1]
        saved, total = map(int, re.search(r"(\d+) of (\d+) chunks", line).groups())
        assert saved == len(place.chunks(chunk.partition("-")[0])) < total
        told = shlex.split(line.partition("continue with: ")[2])
        assert told[:2] == ["python", "-m"]
        judge.correct(place, end(place.start(*told[3:], module=told[2])), THEN_CORRECT)

    two_at_a_time(interrupt, ["train- 1", "train- 9", "retry1- 2", "look1- 5", "refine1- 5"])


@pytest.mark.parametrize("signal", EXIT_CODES)
def test_a_signal_when_all_is_trained_lets_the_file_be_written(judged, new_place, signal):
    place = new_place()
    ended = place.sweep(fault=f"os.rename {OUT.name} 2 {signal}")
    judged(f"{signal} while the results file is written").correct(place, ended)


@pytest.mark.parametrize(("signal", "code"), ENDINGS.items())
def test_a_signal_before_the_run_has_begun_ends_it_at_once(judged, new_place, signal, code):
    place, judge = new_place(), judged(f"{signal} before anything is trained")
    ended = place.sweep(fault=f"os.mkdir {OUT.with_suffix('.run')} 1 {signal}")
    assert ended.code == code
    assert ended.lines == (["python -m sweep: interrupted"] if signal == "SIGINT" else [])
    judge.correct(place, place.sweep(), "ended at once, then correct")


@pytest.mark.parametrize(("signal", "code"), ENDINGS.items())
def test_a_second_signal_does_not_wait_for_a_chunk_that_takes_long(judged, new_place, signal, code):
    place, judge = new_place(), judged(f"{signal} twice during a chunk of half a minute")
    process = place.start_sweep("--steps", 16_000_000)
    wait_until(place.manifest.exists, process)
    sleep(8)  # the program is compiled, and the chunk begun, on a slow machine too
    for _ in range(2):
        assert process.poll() is None
        start = monotonic()
        process.send_signal(Signals[signal])
        sleep(0.5)
    ended = end(process)
    assert monotonic() - start < 5
    assert ended.code == code
    name = "Ctrl-C" if signal == "SIGINT" else signal
    assert ended.lines == [
        f"stopping when what is in hand is saved; {name} again stops at once",
        *(["python -m sweep: interrupted"] if signal == "SIGINT" else []),
    ]
    judge.count("ended at once")
