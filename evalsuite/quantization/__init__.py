"""The toolbox of quantizers.

``grids`` are numbers, ``graph`` networks, ``reconstruction`` learning. At the door: ``apply``
(``evalsuite.quantize``), ``insert`` (where quantizers go), ``saving`` and ``plain_state`` (what lasts),
``layer_report``, ``equalisation``, ``bias_correction``.
"""
