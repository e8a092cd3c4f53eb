"""Tasks: a data set, a trained network and their label space."""
