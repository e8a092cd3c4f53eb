"""Code that a study file names: said before it runs, and run only where the file's reader vouches for it.

A study file is data, but ``path.py:Class`` in it is a program. One that lies beside the file came with it, and whoever
runs a study they were given has seen both; one that lies elsewhere on this machine was never meant to be run by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.errors import RequestError
from evalsuite.registry import python_files

if TYPE_CHECKING:
    from rich.console import Console


def _unsaid(line: str) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Trust:
    """What a reader of study files allows their code.

    Attributes
    ----------
    everywhere : whether code may lie anywhere, as ``--trust`` says; else beside the study file or below.
    say : is told, before any of it runs, which files are run.
    """

    everywhere: bool = False
    say: Callable[[str], None] = _unsaid

    @classmethod
    def on(cls, console: Console, everywhere: bool = False) -> Trust:
        """Return one that speaks on a console."""
        return cls(everywhere, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))

    def check(self, study: Path, raw: Mapping[str, Any], tables: Iterable[str]) -> None:
        """Say which Python files the ``tables`` of a study file name.

        Raises
        ------
        RequestError
            For one that neither lies beside the study nor is trusted, symbolic links followed.
        """
        named = list(dict.fromkeys(file for table in tables for file in python_files(raw.get(table))))
        beside = study.resolve().parent
        for file in named:
            found = Path(file).resolve()
            if not self.everywhere and not found.is_relative_to(beside):
                raise RequestError(
                    f"{study} would run the code of {found}: expected it beside the study, in {beside}, or --trust "
                    "(trust=True in Python) for a study of your own"
                )
        if named:
            self.say(f"running the code of {', '.join(named)}, as {study} asks")
