"""The joblib backends of cluster engines: how each is reached, and what it needs to hand results on as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from evalsuite.errors import RequestError
from evalsuite.extras import import_extra


class Calls:
    """Calls functions on a cluster; what does that is kept from one use to the next.

    Parameters
    ----------
    options : joblib's, that choose the backend.
    places : says how many calls the cluster can do at once.
    most : how many are to be done at once; 0: as many as there is place for.
    """

    def __init__(self, options: Mapping[str, Any], places: Callable[[], int], most: int) -> None:
        self._options, self._places, self._most = options, places, most
        self._parallel: Any = None

    @property
    def jobs(self) -> int:
        """How many calls are done at once."""
        places = self._places()
        return min(self._most, places) if self._most else places

    def results(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call a function with each of several arguments, and yield the results as they come.

        Raises whatever the engine does where a node is lost; the next use begins anew, with the nodes that are left.
        """
        import joblib

        try:
            if self._parallel is None:
                if not self.jobs:
                    raise ConnectionError("it has no nodes")
                with joblib.parallel_config(n_jobs=self.jobs, **self._options):
                    self._parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")
                self._parallel.__enter__()
            yield from self._parallel(joblib.delayed(function)(*call) for call in calls)
        except BaseException:  # also where the caller has no use for the rest
            self.close()
            raise

    def close(self) -> None:
        """Give up what does the calls; it is made anew for the next."""
        if self._parallel is not None:
            with suppress(Exception):  # of what is lost
                self._parallel.__exit__(None, None, None)
            self._parallel = None


@contextmanager
def connected(backend: str, address: str | None, workers: int) -> Iterator[Calls]:
    """Connect to a cluster while the context lasts.

    Parameters
    ----------
    backend : a name of :data:`BACKENDS`.
    address : of the cluster, by default what the engine's own variable says.
    workers : how many calls at most are done at once; 0: as many as there is place for.

    Raises
    ------
    RequestError
        If the engine is not installed, or no cluster is at the address.
    """
    with BACKENDS[backend](address) as (options, places):
        calls = Calls(options, places, workers)
        try:
            yield calls
        finally:
            calls.close()


@contextmanager
def _dask(address: str | None) -> Iterator[tuple[dict[str, Any], Callable[[], int]]]:
    distributed = import_extra("distributed", "dask", "--backend dask")
    chosen = address or distributed.config.get("scheduler-address", None)
    if not chosen:
        raise RequestError("--backend dask without an address: expected --address or DASK_SCHEDULER_ADDRESS")
    try:
        client = distributed.Client(chosen, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RequestError(f"no Dask scheduler at {chosen}: {' '.join(str(error).split())}") from error
    with client:

        def places() -> int:
            return sum(client.ncores().values())

        if not places():
            raise RequestError(f"the Dask cluster at {chosen} has no workers: expected at least one")
        yield {"backend": "dask", "client": client}, places


@contextmanager
def _ray(address: str | None) -> Iterator[tuple[dict[str, Any], Callable[[], int]]]:
    ray = import_extra("ray", "ray", "--backend ray")
    chosen = address or os.environ.get("RAY_ADDRESS")
    if not chosen:
        raise RequestError("--backend ray without an address: expected --address or RAY_ADDRESS")
    try:
        ray.init(address=chosen, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RequestError(f"no Ray cluster at {chosen}: {' '.join(str(error).split())}") from error
    try:
        import joblib
        from ray.util.joblib.ray_backend import RayBackend
        from ray.util.multiprocessing import Pool

        class Unordered(RayBackend):
            """Ray's own, but that results come as they end, which its pool can do, and that one place is one there.

            joblib's way with a single job is to do it in the calling process.
            """

            supports_return_generator = True

            def configure(self, n_jobs: int = 1, parallel: Any = None, *other: Any, **options: Any) -> int:
                self._pool, self.parallel = Pool(n_jobs), parallel
                return n_jobs

            def effective_n_jobs(self, n_jobs: int) -> int:
                return n_jobs

            def abort_everything(self, ensure_ready: bool = True) -> None:
                self.terminate()  # begun anew with the nodes that are left, not with as many as before

        joblib.register_parallel_backend("evalsuite-ray", Unordered)
        yield {"backend": "evalsuite-ray"}, lambda: int(ray.cluster_resources().get("CPU", 0))
    finally:
        ray.shutdown()


BACKENDS: dict[str, Callable[[str | None], AbstractContextManager[tuple[dict[str, Any], Callable[[], int]]]]] = {
    "dask": _dask,
    "ray": _ray,
}
