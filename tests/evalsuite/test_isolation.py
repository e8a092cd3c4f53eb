import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import ReasonCode, Refused, RequestError
from evalsuite.isolation import (
    LONGEST,
    Forks,
    attempt,
    nothing_left,
    printable,
    requested,
    single_process,
    text_of,
)


class Speechless(Exception):
    def __str__(self):
        raise SystemExit(0)


class Wordless(Exception):
    def __str__(self):
        return 3  # type: ignore[return-value]


def raising(error):
    def act():
        raise error

    return act


@given(st.text(st.characters(), max_size=300) | st.text(st.sampled_from("\ud800\u202e\x00\n\x1b[2J é"), max_size=50))
def test_any_text_becomes_one_line_that_every_encoding_of_a_file_can_hold(text):
    line = printable(text, 100)
    assert line.isprintable()
    assert len(line) <= 100
    assert line.encode("utf-8").decode("utf-8") == line


def test_plain_text_stays_as_it_is():
    assert printable("no such file: ä.png, 3 %") == "no such file: ä.png, 3 %"


def test_ten_megabytes_become_a_line_that_says_so():
    line = printable("x" * 10_000_000)
    assert len(line) == LONGEST
    assert line.endswith("(10,000,000 characters)")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("no luck"), "ZeroDivisionError: no luck (test_isolation.py:"),
        (SystemExit(0), "SystemExit: 0 ("),
        (KeyboardInterrupt(), "KeyboardInterrupt:  ("),
        (GeneratorExit("end"), "GeneratorExit: end ("),
        (BaseException("of a plugin"), "BaseException: of a plugin ("),
        (Speechless(), "Speechless: no message: SystemExit in its __str__ ("),
        (Wordless(), "Wordless: no message: TypeError in its __str__ ("),
        (ValueError("a\nb \ud800 \u202e"), r"ValueError: a b \ud800 \u202e ("),
        (RequestError("expected 3"), "RequestError: expected 3"),
    ],
)
def test_whatever_is_raised_is_a_failure_with_its_reason(error, reason):
    failure = attempt(raising(error))
    assert failure.status == "failed"
    assert failure.reason.startswith(reason)
    wrong_request = isinstance(error, RequestError)
    assert failure.code == (ReasonCode.WRONG_REQUEST if wrong_request else ReasonCode.PLUGIN_ERROR)


@pytest.mark.parametrize("error", [MemoryError("no 3 GB"), torch.cuda.OutOfMemoryError("no 3 GB")])
def test_want_of_memory_has_a_code_of_its_own(error):
    assert attempt(raising(error)).code == "memory"


def test_refusal_is_no_failure_and_success_is_neither():
    class Foreign(Refused):
        def __init__(self):
            RuntimeError.__init__(self, "own words")

    assert attempt(raising(Refused("not\nhere")))[:3] == ("refused", "not here", "not_applicable")
    unsupported = Refused("no einsum", ReasonCode.UNSUPPORTED_OPERATION)
    assert attempt(raising(unsupported))[:3] == ("refused", "no einsum", "unsupported_operation")
    assert attempt(raising(Foreign()))[:3] == ("refused", "own words", "not_applicable")
    assert attempt(lambda: None) is None


CTRL_C = """
import contextlib, signal
from evalsuite.isolation import attempt, interrupts

def raised(action):
    try:
        action()
    except KeyboardInterrupt:
        return True
    return False

def fail():
    raise KeyboardInterrupt

def swallow():
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

handler = signal.getsignal(signal.SIGINT)
with interrupts() as interrupted:
    assert attempt(fail, interrupted)[0] == "failed", "what a plugin raises is a failure"
    assert raised(lambda: attempt(lambda: signal.raise_signal(signal.SIGINT), interrupted)), "Ctrl-C is not"
with interrupts() as interrupted:
    assert raised(lambda: attempt(swallow, interrupted)), "nor is one that a plugin swallows"
assert signal.getsignal(signal.SIGINT) is handler
"""


def test_ctrl_c_is_told_from_an_interrupt_that_a_plugin_raises_or_swallows():
    # In a process of its own: a real SIGINT has ended the one that runs the other tests, by a thread that is not ours.
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", [SystemExit(0), ZeroDivisionError("a\nb"), Speechless()])
def test_a_plugin_s_fault_becomes_a_request_error_of_one_line(error):
    with (
        pytest.raises(RequestError, match=r"^stream 'x' is broken: \w+: ") as caught,
        requested("stream 'x' is broken"),
    ):
        raise error
    assert "\n" not in text_of(caught.value)
    with pytest.raises(KeyboardInterrupt), requested("stream"):
        raise KeyboardInterrupt


def test_thread_that_goes_on_is_named_and_one_that_ends_is_not():
    left, end, forks = [], threading.Event(), Forks()
    with nothing_left(left, forks):
        threading.Thread(target=lambda: None).start()
        threading.Thread(target=end.wait, daemon=True).start()
        threading.Thread(target=end.wait, name="worker\n7").start()
    end.set()
    assert left == ["a thread (worker 7)"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system does not name children")  # noqa: PTH112
def test_copies_that_are_forked_are_ended_and_named():
    left, forks = [], Forks()
    with nothing_left(left, forks), single_process():
        if os.fork() == 0:
            signal.pause()
        pid = os.fork()  # comes back from what forked it, and must not go on
    assert left == ["a forked process"]
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_programs_and_copies_that_are_waited_for_are_nobody_s_concern():
    left, forks = [], Forks()
    with nothing_left(left, forks):
        started = subprocess.Popen([sys.executable, "-c", ""])
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    assert left in ([], ["a forked process"])  # the program may not have been waited for yet
    started.wait()


def test_copy_does_not_return_from_an_attempt():
    read, write = os.pipe()
    parent = os.getpid()
    attempt(lambda: os.fork() or os.write(write, b"."))
    if os.getpid() != parent:
        os.write(write, b"came back")
        os._exit(0)
    os.close(write)
    assert os.wait()[1] != 0
    assert os.read(read, 100) == b"."
    os.close(read)
