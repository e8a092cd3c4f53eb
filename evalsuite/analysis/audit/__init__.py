"""From the records of an audit to its verdict: what is asked, claimed, lost, ranked and paid."""

from evalsuite.analysis.audit.build import Request, unmeasured, verdict_of

__all__ = ["Request", "unmeasured", "verdict_of"]
