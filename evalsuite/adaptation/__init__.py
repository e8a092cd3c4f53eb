"""A network that adapts, and the meter beside it.

``adapted_model`` wraps a network and an adapter (``adapt``, ``AdaptedModel``), ``meter`` counts passes and bytes,
``collapse`` notices that one class swallows a stream; ``batches`` are numbers of batches in what adapters say.
"""
