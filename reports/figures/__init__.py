"""The figures, one a file; each is registered under ``evalsuite.figures`` as a third party's would be."""
