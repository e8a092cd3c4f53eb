"""Learning rounding and steps unit by unit: units, losses, options, the walk through a network."""
