"""Learning rounding and steps, unit by unit.

``units`` are found, ``block_by_block`` goes through them, ``unit_learner`` learns one by the ``losses`` and
``options`` of a method: ``soft_rounding`` of weights, ``learned_step`` of activations. ``scratch`` keeps what reaches
a unit, ``layer_by_layer`` serves methods without learning.
"""
