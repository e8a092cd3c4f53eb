"""The arithmetic and the building blocks that PTQ methods share."""
