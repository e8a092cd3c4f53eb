"""The random numbers of the original corruption programs, behind the interface of the fast engine's draws."""

import numpy as np


class LegacyDraws:
    """One stream of numpy's legacy generator, shared by all images, which must be corrupted one by one.

    ``reach`` is glass blur's, whose original draws two numbers a pixel from the last pixel to the first.
    """

    def __init__(self, seed=0, reach=0):
        self._random = np.random.RandomState(seed)
        self._reach = reach

    def __len__(self):
        return 1

    def uniform(self, *shape):
        return self._random.random_sample(shape).astype(np.float32)[None]

    def normal(self, *shape):
        return self._random.normal(size=shape).astype(np.float32)[None]

    def below(self, limits):
        return np.array([[self._random.randint(limit) for limit in limits[0]]])

    def words(self, count):
        sides = 2 * self._reach
        across, down = self._random.randint(0, sides, size=(count, 2))[::-1].T
        return np.ceil((down * sides + across) * 65536 / sides**2).astype(np.uint16)[None]
