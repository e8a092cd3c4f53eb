"""Numbers on grids.

``affine`` and ``nonuniform`` round, ``ranges`` are the estimators of a range, ``range_setting`` sets them from
images, ``layers`` are the modules that hold them.
"""
