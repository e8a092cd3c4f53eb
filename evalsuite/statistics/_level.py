"""The level of every test and interval, once: what may be claimed is asked of :mod:`evalsuite.analysis.claims`."""

LEVEL = 0.05
"""A test rejects where its p is below this; intervals hold with probability ``1 - LEVEL``."""
