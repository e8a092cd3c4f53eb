"""The boundary around plugins: whatever one raises, leaves behind or forks becomes the reason of its own trial."""

from __future__ import annotations

import concurrent.futures.thread
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from evalsuite.errors import ReasonCode, Refused, RequestError


class Failure(NamedTuple):
    """What could not be done: the trial's status, why, the same for programs, and where it was raised."""

    status: str
    reason: str
    code: ReasonCode = ReasonCode.PLUGIN_ERROR
    traceback: str = ""


LONGEST = 1000
"""Characters that a reason may have; ours."""
LONGEST_TRACEBACK = 20_000
"""Characters that a traceback may have; ours."""
_GRACE = 1.0  # seconds that a thread gets to end by itself


def printable(text: str, limit: int = LONGEST) -> str:
    """Return text as one line of at most ``limit`` characters that any file, terminal and encoding can hold.

    White space becomes a blank; control, bidirectional and surrogate characters become escapes.
    """
    head = text[: 4 * limit]  # of ten megabytes the rest is not even looked at
    line = "".join(_visible(character) for character in " ".join(head.split()))
    if len(line) <= limit and len(head) == len(text):
        return line
    ending = f"... ({len(text):,} characters)"
    return line[: limit - len(ending)] + ending


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def text_of(error: BaseException) -> str:
    """Return an error's message as :func:`printable` text, also where the error cannot say it."""
    try:
        return printable(str(error))
    except BaseException as fault:  # a foreign __str__ may do anything
        return f"no message: {type(fault).__name__} in its __str__"


def reason_of(error: BaseException) -> str:
    """Return an error's type, message and, unless it is a :class:`RequestError`, the file and line it came from."""
    name, said, where = printable(type(error).__name__, 100), text_of(error), ""
    frames = list(traceback.walk_tb(error.__traceback__))
    if frames and not isinstance(error, RequestError):
        frame, line = frames[-1]
        where = f" ({printable(Path(frame.f_code.co_filename).name, 100)}:{line})"
    return f"{name}: {said}{where}"


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback as lines that any file and terminal can hold, without its middle if it is long."""
    try:
        whole = "".join(traceback.format_exception(error))
    except BaseException as fault:  # a foreign __str__, or one of a cause, may do anything
        return f"no traceback: {type(fault).__name__} while it was written\n"
    half = LONGEST_TRACEBACK // 2 - 50
    ends = [whole] if len(whole) <= LONGEST_TRACEBACK else [whole[:half], whole[-half:]]
    shown = ["".join(c if c == "\n" else _visible(c) for c in part) for part in ends]
    if len(ends) == 1 and len(shown[0]) <= LONGEST_TRACEBACK:
        return shown[0]
    return f"{shown[0][:half]}\n... ({len(whole):,} characters) ...\n{shown[-1][-half:]}"


def _code_of(error: BaseException) -> ReasonCode:
    if isinstance(error, Refused):
        code = getattr(error, "code", None)  # a foreign kind of it need not have called ours
        return code if isinstance(code, ReasonCode) else ReasonCode.NOT_APPLICABLE
    if isinstance(error, RequestError):
        return ReasonCode.WRONG_REQUEST
    return ReasonCode.MEMORY if out_of_memory(error) else ReasonCode.PLUGIN_ERROR


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice: Python's, and those of torch, without importing it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return type(error) is RuntimeError and "DefaultCPUAllocator" in text_of(error)  # which has no type of its own


def _never() -> bool:
    return False


def attempt(action: Callable[[], Any], interrupted: Callable[[], bool] = _never) -> Failure | None:
    """Call ``action`` and return how it failed, if it did.

    Parameters
    ----------
    interrupted : whether the user has pressed Ctrl-C; if so, and only then, KeyboardInterrupt is raised. One that a
        plugin raises is a failure like any other.
    """
    process = os.getpid()
    failure: Failure | None = None
    try:
        action()
    except Refused as error:
        failure = Failure("refused", text_of(error), _code_of(error))
    except BaseException as error:  # a plugin may raise anything, and the rest of the study must go on
        failure = Failure("failed", reason_of(error), _code_of(error), traceback_of(error))
    if os.getpid() != process:
        end_copy()
    if interrupted():  # also where a plugin has swallowed it
        raise KeyboardInterrupt
    return failure


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C was pressed meanwhile; as ever it raises KeyboardInterrupt."""
    pressed = threading.Event()

    def press(number: int, frame: Any) -> NoReturn:
        pressed.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # where Ctrl-C never arrives
        yield pressed.is_set
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def requested(what: str) -> Iterator[None]:
    """Turn whatever a plugin raises into a RequestError that begins with ``what``, RequestError and Ctrl-C apart."""
    try:
        yield
    except (RequestError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RequestError(f"{what}: {reason_of(error)}") from error


def end_copy() -> NoReturn:
    """End a copy of this process that a plugin forked and that came back from it: it must not go on with the run."""
    os._exit(70)  # EX_SOFTWARE of <sysexits.h>


@contextmanager
def single_process() -> Iterator[None]:
    """End copies of this process that are forked within the context and reach its end."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            end_copy()


class Forks:
    """Counts how often this process is forked by Python code, which starting a program does not do."""

    def __init__(self) -> None:
        self.count = 0
        os.register_at_fork(after_in_parent=self._add)

    def _add(self) -> None:
        self.count += 1


@contextmanager
def nothing_left(left: list[str], forks: Forks) -> Iterator[None]:
    """Add to ``left`` what still runs at the end and did not before: threads that keep a process alive, forked copies.

    Idle threads of an executor and processes of :mod:`multiprocessing`, which end with the process, do not count. Such
    copies, and those that ended without being waited for, are ended and waited for, where the system names them
    (``/proc``); threads cannot be.
    """
    threads, children, forked = set(threading.enumerate()), _children(), forks.count
    try:
        yield
    finally:
        left += [f"a thread ({printable(thread.name, 100)})" for thread in _threads_since(threads)]
        if forks.count > forked:
            known = children | {process.pid or 0 for process in multiprocessing.active_children()}
            copies = _children() - known
            left += ["a forked process"] if copies else []
            for pid in copies:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(OSError):
                    os.waitpid(pid, 0)


def _threads_since(before: set[threading.Thread]) -> list[threading.Thread]:
    executors = getattr(concurrent.futures.thread, "_threads_queues", {})
    found = [t for t in threading.enumerate() if t not in before and not t.daemon and t not in executors]
    deadline = time.monotonic() + _GRACE
    for thread in found:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in found if thread.is_alive()]


def _children() -> set[int]:
    """Return the children of this process, ended ones that nobody has waited for among them."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found.update(int(pid) for pid in file.read_text(encoding="ascii").split())
    return found
