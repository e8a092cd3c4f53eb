"""A network that adapts, and the meter beside it."""
