"""Packages that one method or kind of task alone needs: extras of the distribution, imported when that is used."""

from __future__ import annotations

import importlib
from types import ModuleType

from evalsuite.errors import RequestError


class MissingExtra(RequestError):
    """A package of an extra that is not installed."""


def import_extra(module: str, extra: str, needed_by: str) -> ModuleType:
    """Import a module of the extra ``extra``, for what the error calls ``needed_by``.

    Raises
    ------
    MissingExtra
        A RequestError: a package is not installed; it names the package, and the command that installs the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise MissingExtra(
            f"{needed_by} needs the package {package}, which is not installed: pip install 'evalsuite[{extra}]'"
        ) from error
