"""Commands of ``evalsuite`` that are a file each."""
