"""Stopping a run in which too many trials fail."""

from __future__ import annotations

_LEAST = 5  # trials that have ended before their share of failures is looked at; ours


class TooManyFailed(Exception):
    """More trials failed than a run is to bear; says how many."""


class FailureLimit:
    """Counts how trials end.

    Parameters
    ----------
    ended, failed : trials that have ended before, how many of these failed.
    share : of the trials that have ended, how many may fail, 0..1.
    """

    def __init__(self, ended: int, failed: int, share: float) -> None:
        self._ended, self._failed, self._share = ended, failed, share

    def add(self, failed: bool) -> None:
        """Count a trial that has ended.

        Raises
        ------
        TooManyFailed
            If at least 5 have ended, and more than the share of them failed.
        """
        self._ended += 1
        self._failed += failed
        if self._ended >= _LEAST and self._failed > self._share * self._ended:
            raise TooManyFailed(
                f"{self._failed} of {self._ended} trials that have ended failed, more than a share of {self._share:g}"
            )
