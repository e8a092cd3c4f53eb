"""What ZOA is tried on: two networks, a detector that fires early, a stream whose domains differ."""

from _dummies.models import random_images, tiny_resnet, tiny_transformer

BUILDS = [tiny_resnet, tiny_transformer]
EAGER = {"min_batch": 2, "threshold": 0.0}


def stream(lengths=(4, 4, 4), images=64):
    """Noise whose mean and size change from domain to domain."""
    for domain, length in enumerate(lengths):
        for index in range(length):
            yield random_images(images, 100 * domain + index) * (1 + domain % 2) + domain
