"""What does a run's items: this process, worker processes, or the nodes of a cluster."""

from __future__ import annotations

from evalsuite.running.cluster import Cluster
from evalsuite.running.workers import Here, Workers

Pool = Here | Workers | Cluster
"""Entered as a context; yields items as they end, each with how it failed, if it did."""
