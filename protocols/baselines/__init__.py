"""Records of an audit's baselines that come with evalsuite, made by ``python -m benchmarks.ship_baselines``."""

from pathlib import Path

audit_quick = Path(__file__).parent / "audit_quick"
