"""The errors and warnings that users see; every message names what was wrong and what was expected."""

from __future__ import annotations

import contextlib
import difflib
import enum
import warnings
from collections.abc import Iterable, Iterator

_LONGEST = 1800  # characters of a message
_LISTED = 60  # names that a line may hold


class RequestError(ValueError):
    """The request is wrong (a misspelt name, a missing file, an impossible value): exit status 2.

    A message of over 1,800 characters loses its middle, in which a value is quoted.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_bounded(message))


def _bounded(message: str) -> str:
    if len(message) <= _LONGEST:
        return message
    half = _LONGEST // 2 - 20
    return f"{message[:half]} ... ({len(message) - 2 * half} more) ... {message[-half:]}"


class NotHere(RequestError):
    """Images or weights lie in a folder that was not named, or are to be loaded yet: the request may be right."""


class ReasonCode(enum.StrEnum):
    """Why a trial has no result, for programs: ``reason_code`` of ``trials.parquet``, beside the message for people."""

    NOT_APPLICABLE = "not_applicable"
    """Refused: the method is not for this network, data or setting."""
    UNSUPPORTED_OPERATION = "unsupported_operation"
    """Refused: the network does something that the method, or its engine, cannot take apart, export or keep."""
    NOT_INSTALLED = "not_installed"
    """Refused: an engine's package is not installed; unlike other refused ones the trial is tried again."""
    WRONG_REQUEST = "wrong_request"
    """Failed: a request, file or plugin's answer is wrong, which was seen with the trial only."""
    PLUGIN_ERROR = "plugin_error"
    """Failed: a plugin, or the network, raised something else."""
    MEMORY = "memory"
    """Failed: there was not memory enough."""
    LEFT_RUNNING = "left_running"
    """Failed: a thread or process lasts beyond it."""
    WORKER_DIED = "worker_died"
    """Failed: its process ended, twice, the second time alone."""
    TIME_LIMIT = "time_limit"
    """Failed: no result within ``--time-limit``."""
    HUNG = "hung"
    """Failed: its process used no processor time."""
    RECORD_MISSING = "record_missing"
    """Failed: it has ended, but its record is gone."""


class Refused(RuntimeError):
    """A plugin declines a combination it cannot serve; the trial becomes a row with status ``refused``.

    Parameters
    ----------
    message : why, for people.
    code : why, for programs.
    """

    def __init__(self, message: str = "", code: ReasonCode = ReasonCode.NOT_APPLICABLE) -> None:
        super().__init__(message)
        self.code = code


class QuantizationWarning(UserWarning):
    """Something about a model or its calibration images that makes a quantized result doubtful."""


class AdaptationWarning(UserWarning):
    """A part of an adaptation method that does not work on this model or stream as its authors describe it."""


class EvaluationWarning(UserWarning):
    """Networks that are evaluated in another way than was asked for."""


class DamageWarning(UserWarning):
    """A file of the run or of a cache that was damaged, and is made again."""


def one_line_warnings() -> None:
    """Let this process show evalsuite's own warnings as one line each, without the line of code that gave them.

    For programs that people run; a library leaves the process's way of showing warnings alone.
    """
    before = warnings.formatwarning

    def shown(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if issubclass(category, QuantizationWarning | AdaptationWarning | EvaluationWarning | DamageWarning):
            return f"evalsuite: {' '.join(str(message).split())}\n"
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = shown


def unknown_name(what: str, name: str, known: Iterable[str]) -> RequestError:
    """Build the error for a misspelt name: says what was meant if it is near, and lists what there is."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=5, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    listed = choices if len(choices) <= _LISTED else [*nearest, f"... ({len(choices)} in all)"]
    return RequestError(f"unknown {what} {name!r}: {hint}known: {', '.join(listed) or 'none'}")


@contextlib.contextmanager
def own_warnings(category: type[Warning]) -> Iterator[list[str]]:
    """Collect warnings of one category, each message once; others are shown as ever."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        yield messages
    for warning in caught:
        if not issubclass(warning.category, category):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif str(warning.message) not in messages:
            messages.append(str(warning.message))
