"""Numbers on grids: affine and non-uniform, ranges and how they are set, layers that round."""
