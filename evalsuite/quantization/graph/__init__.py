"""Networks as graphs: traces, hooks, norms, attention and its products."""
