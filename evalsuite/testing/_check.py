"""A check, how it is made, and how a list of them becomes a test's failure."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from evalsuite import registry
from evalsuite.errors import Refused, RequestError
from evalsuite.isolation import reason_of
from evalsuite.optional_members import missing_methods
from evalsuite.running.process_state import restored

_S = TypeVar("_S")
_MODULES = "imported modules"

Outcome = Literal["pass", "fail", "not applicable"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name : what was asked.
    message : what was seen, where it did not pass.
    mend : what to do about it, where it failed.
    spoils_numbers : whether numbers measured with a plugin that fails it would be wrong.
    """

    name: str
    outcome: Outcome
    message: str = ""
    mend: str = ""
    spoils_numbers: bool = False


@dataclass(frozen=True)
class Question:
    """A check that has not been made: ``ask`` raises Failed, NotApplicable, or whatever the plugin raises."""

    name: str
    ask: Callable[[], None]
    mend: str
    spoils_numbers: bool = False


class Failed(Exception):
    """What was looked at is not as the contract asks."""


class NotApplicable(Exception):
    """There is nothing to look at."""


def questions_about(
    subject: _S, asked: Mapping[str, tuple[Callable[[_S], None], str]], spoils_numbers: bool = True
) -> list[Question]:
    """Return what is asked of a subject: by the check's name the function that looks, and the mend."""
    return [
        Question(name, functools.partial(ask, subject), mend, spoils_numbers) for name, (ask, mend) in asked.items()
    ]


def make(questions: Sequence[Question]) -> list[Check]:
    """Make all checks; each leaves the process as it was, whatever the plugin does."""
    return [_made(question) for question in questions]


def make_by_network(
    make_plugin: Callable[[], Any],
    contract: type,
    methods: Sequence[str],
    subjects: Mapping[str, _S],
    questions: Callable[[_S], Sequence[Question]],
) -> list[Check]:
    """Look whether a plugin has the methods of its contract and, if so, at every subject, by the network's name."""
    name, mend = f"it has {' and '.join(methods)}", f"Write the methods of {contract.__module__}.{contract.__name__}."
    first = make([Question(name, functools.partial(check_methods, make_plugin, methods), mend, True)])
    if first[0].outcome == "fail":
        return first
    asked = [
        replace(question, name=f"{network}: {question.name}" if network else question.name)
        for network, subject in subjects.items()
        for question in questions(subject)
    ]
    return first + make(asked)


def _made(question: Question) -> Check:
    with restored(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            question.ask()
        except (NotApplicable, Refused) as error:
            return Check(question.name, "not applicable", str(error), "", question.spoils_numbers)
        except Failed as error:
            return Check(question.name, "fail", str(error), question.mend, question.spoils_numbers)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, which is what is looked for
            return Check(question.name, "fail", reason_of(error), question.mend, question.spoils_numbers)
    return Check(question.name, "pass", "", "", question.spoils_numbers)


def require(checks: Sequence[Check], what: Any) -> None:
    """Raise AssertionError that lists every failed check with its mend, or says that no check applied."""
    failed = [f"- {check.name}: {check.message}\n  {check.mend}" for check in checks if check.outcome == "fail"]
    if failed:
        raise AssertionError(f"{what}: {len(failed)} of {len(checks)} checks failed\n" + "\n".join(failed))


def factory(kind: registry.Kind, plugin: Any) -> Callable[[], Any]:
    """Return a function that gives the plugin as it was handed in, a new one each time.

    ``plugin``: a class, an instance, the name of an entry point, ``package.module:Class`` or ``path.py:Class``.
    """
    if isinstance(plugin, str):
        return registry.configure(kind, plugin).build
    if isinstance(plugin, type):
        return plugin
    kept = copy.deepcopy(plugin)
    return lambda: copy.deepcopy(kept)


def check_methods(make_plugin: Callable[[], Any], methods: Sequence[str]) -> None:
    """Raise Failed for the methods of the contract that a plugin lacks."""
    plugin = make_plugin()
    if missing := missing_methods(plugin, methods):
        raise Failed(f"{type(plugin).__name__} has no method {' and no method '.join(missing)}")


def refused_clearly(action: Callable[[], Any], what: str) -> None:
    """Raise Failed unless ``action`` raises an error that a user can read: ValueError, TypeError or Refused."""
    try:
        action()
    except (RequestError, Refused, ValueError, TypeError):
        return
    except Exception as error:
        raise Failed(f"{what}: {reason_of(error)}") from error
    raise Failed(f"{what} was taken without an error")


def scatter(seed: int) -> None:
    """Put the global generators, which no plugin may draw from, into a state of their own."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that careless code draws from
    torch.manual_seed(seed)


def global_state() -> dict[str, Any]:
    """Return what a plugin shares with the process and has to leave as it is, by name."""
    plain, array = random.getstate(), np.random.get_state()  # noqa: NPY002
    return {
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's random state": repr(array),
        "Python's random state": plain,
        "working folder": os.getcwd(),  # noqa: PTH109 - a text to compare
        "environment": dict(os.environ),
        "warning filters": list(warnings.filters),
        _MODULES: len(sys.modules),
        "deterministic algorithms": torch.get_deterministic_debug_mode(),
        "cuDNN flags": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "number of threads": torch.get_num_threads(),
        "numpy's error handling": np.geterr(),
    }


def changed_state(before: dict[str, Any]) -> list[str]:
    """Return the names of what :func:`global_state` gives otherwise now."""
    now = global_state()
    changed = [name for name, value in before.items() if now[name] != value]
    if _MODULES in changed:  # a library may set these when it is imported
        return [name for name in changed if name not in (_MODULES, "warning filters", "environment")]
    return changed


@contextlib.contextmanager
def process_kept() -> Iterator[None]:
    """Raise Failed where what is done here changes what :func:`global_state` gives."""
    before = global_state()
    yield
    if changed := changed_state(before):
        raise Failed(f"changed: {', '.join(changed)}")
