"""Network structures: the tasks' own, and what opened-up transformers are made of."""
