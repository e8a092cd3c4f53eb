"""Measured ratios and errors on real images, which no test may assert; ``python -m benchmarks`` runs them."""
