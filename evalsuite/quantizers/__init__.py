"""PTQ methods, one a file: plugins with the two methods of :class:`evalsuite.plugins.Quantizer`."""
