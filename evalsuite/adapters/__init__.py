"""Test-time adaptation methods, one a file; what several share is in the files that begin with an underscore."""
