"""What ``evalsuite new`` writes: a plugin of each kind and its test, as they stand here but for their names."""
