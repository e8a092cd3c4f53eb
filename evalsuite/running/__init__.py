"""What happens in a run: trials in, records out.

``harness`` plans, hands out and gathers; ``stages`` and ``workers`` do the items in processes of their own, whose
shared state ``process_state`` puts back. What trials share is made once: ``task_data`` (images and network),
``calibration_sets``, ``pool_outputs``, ``quantized_models``, ``domain_images``; ``workspace``
says where it lies. Then ``evaluation`` runs a trial, ``gate`` stops what is not fit to be studied, ``jitter``
measures rounding, ``diagnosis`` says why networks break, ``examples`` and ``notes`` are what a report shows beside
numbers, ``stream_files`` what a replay reads.

For authors: ``harness.run``, ``task_data.normalise``, ``stream_files.write_streams``.
"""
