"""What is asked: immutable values, checked before anything is written.

``file`` reads a study, ``values`` looks at its raw values, ``settings`` and ``tables`` are what it becomes;
``trials`` is the product and each trial's identity, ``labels`` their short names, ``cost`` what they would cost,
``audit`` the study that audits a method.

For authors: ``file.read``, ``file.parse``, ``settings.Study``, ``trials.Trial``, ``trials.expand``.
"""
