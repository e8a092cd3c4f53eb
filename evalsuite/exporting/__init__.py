"""Quantized networks as ONNX graphs that hold exactly what was learnt.

``grids`` says what of a network ONNX can say, ``graph`` writes it, ``encodings`` says the same as JSON, ``write``
is the door (``evalsuite.export``). ``floating`` is what networks that are not quantized use as well.
"""
