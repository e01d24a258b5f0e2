"""Ctrl-C and SIGTERM: one is noted, a second one ends the program, and afterwards all is as before."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from polyjax.runs.folder import interruption
from polyjax.runs.folder.interruption import SIGNALS, Interrupted, Requests, at_once

# Without the package, which would take a second to start.
WAITS = """
import sys, time
from runpy import run_path
with run_path(sys.argv[1])["Requests"]() as requests:
    print("ready", flush=True)
    while requests.number is None:
        time.sleep(0.01)
    print("noted", int(requests.number), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def process():
    with subprocess.Popen(
        [sys.executable, "-c", WAITS, interruption.__file__], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("second", SIGNALS, ids=lambda number: f"then {number.name}")
@pytest.mark.parametrize("first", SIGNALS, ids=lambda number: number.name)
def test_a_signal_is_noted_and_another_one_ends_the_program(process, first, second):
    process.send_signal(first)
    assert process.stdout.readline() == f"noted {int(first)}\n"
    process.send_signal(second)
    assert process.wait(timeout=10) == -second  # what a program without handlers would end with
    said = process.stderr.read()
    name = "Ctrl-C" if first == signal.SIGINT else "SIGTERM"
    assert said.startswith(f"\nstopping when what is in hand is saved; {name} again stops at once\n")
    assert ("KeyboardInterrupt" in said) == (second == signal.SIGINT)


@pytest.fixture
def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_handlers_are_as_before_when_it_is_over(handlers, number):
    with Requests() as requests:
        assert requests.number is None
        assert [signal.getsignal(each) for each in SIGNALS] != handlers
        signal.raise_signal(number)
        assert requests.number == number
    assert [signal.getsignal(each) for each in SIGNALS] == handlers


def test_handlers_are_as_before_when_an_error_ends_it(handlers):
    with pytest.raises(ZeroDivisionError), Requests():
        _ = 1 / 0
    assert [signal.getsignal(each) for each in SIGNALS] == handlers


def test_a_request_is_of_its_own_run_alone():
    with Requests() as first:
        signal.raise_signal(signal.SIGINT)
    with Requests() as second:
        assert second.number is None
    assert first.number == signal.SIGINT


def test_a_signal_that_the_program_ignores_stays_ignored(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with at_once("p"), Requests() as requests:
            signal.raise_signal(signal.SIGINT)
            assert requests.number is None
            signal.raise_signal(signal.SIGTERM)
            assert requests.number == signal.SIGTERM
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handlers[0])


def test_outside_the_main_thread_nothing_is_noted_and_nothing_changes(handlers):
    def work():
        assert threading.current_thread() is not threading.main_thread()
        with Requests() as requests:  # `signal.signal` itself would raise ValueError here
            assert [signal.getsignal(each) for each in SIGNALS] == handlers
        return requests.number

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(work).result() is None


# --- at once, by a program whose threads are at work

# A thread that a program which ends in the ordinary way waits for; then, with "noted", a run that notes one signal.
TRAINS = """
import sys, threading, time
from contextlib import nullcontext
from runpy import run_path
module = run_path(sys.argv[1])
threading.Thread(target=time.sleep, args=(600,)).start()
with module["at_once"]("python -m sweeps.figure4"), module["Requests"]() if sys.argv[2] else nullcontext() as requests:
    print("ready", flush=True)
    while not sys.argv[2] or requests.number is None:
        time.sleep(0.01)
    print("noted", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["", "noted"])
def training(request):
    with subprocess.Popen(
        [sys.executable, "-c", TRAINS, interruption.__file__, request.param],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        if request.param:
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "noted\n"
        yield process
        process.kill()


def test_ctrl_c_ends_a_program_at_once_with_one_line_though_its_threads_are_at_work(training):
    training.send_signal(signal.SIGINT)
    assert training.wait(timeout=10) == 130
    assert training.stderr.read().endswith("\npython -m sweeps.figure4: interrupted\n")


def test_sigterm_ends_a_program_at_once_as_ever(training):
    training.send_signal(signal.SIGTERM)
    assert training.wait(timeout=10) == -signal.SIGTERM


def test_ctrl_c_is_as_before_afterwards(handlers):
    with at_once("p"):
        assert signal.getsignal(signal.SIGINT) != handlers[0]
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    with pytest.raises(ZeroDivisionError), at_once("p"):
        _ = 1 / 0
    assert [signal.getsignal(each) for each in SIGNALS] == handlers


def test_outside_the_main_thread_ctrl_c_is_left_to_others(handlers):
    def work():
        with at_once("p"):
            return [signal.getsignal(each) for each in SIGNALS]

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(work).result() == handlers


def test_an_interrupted_run_ends_with_the_exit_code_of_its_signal():
    assert (Interrupted(signal.SIGINT, "").exit_code, Interrupted(signal.SIGTERM, "").exit_code) == (130, 143)
    assert isinstance(Interrupted(signal.SIGINT, ""), KeyboardInterrupt)  # no `except Exception` swallows it
    assert str(Interrupted(signal.SIGINT, "stopped")) == "stopped"
