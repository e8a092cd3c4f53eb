"""Networks as graphs.

``trace`` says what ran in which order, ``hooks`` replace modules and keep what they got first, ``norms`` are
folded, ``attention`` is opened and its products routed (``routed_products``).
"""
