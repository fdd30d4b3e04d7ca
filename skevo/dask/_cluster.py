"""Cluster: the few things that a fit asks of Dask."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any

from distributed import Client, Future, default_client

__all__ = ["Cluster"]

# So many results are added up at a time: a tree of them needs little memory anywhere.
_FAN_IN = 16
# How long there may be no worker at all, in seconds: nannies start lost ones again.
_PATIENCE = 60.0
_GLANCE = 1.0


class Cluster:
    """Tasks on the workers of a client, which is the default one if None."""

    def __init__(self, client: Client | None) -> None:
        self.client = default_client() if client is None else client
        if self.client.asynchronous:
            raise ValueError("client must not be asynchronous: fit waits for its results.")
        self._waiting = ThreadPoolExecutor(1)

    @property
    def workers(self) -> list[str]:
        """Addresses of the workers, in order."""
        return sorted(self.client.nthreads())

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        """Have a worker call a function of values and futures."""
        return self.client.submit(function, *args, pure=False)

    def submit_to(self, home: Sequence[str], function: Callable[..., Any], *args: Any) -> Future:
        """Have one of some workers call a function, or another one if they are lost."""
        if not home:
            return self.submit(function, *args)
        return self.client.submit(
            function, *args, pure=False, workers=home, allow_other_workers=True
        )

    def share(self, value: Any) -> Future:
        """Have a value on workers, of which each that needs it gets one copy.

        As the result of a task it can be had again when a worker is lost, which cannot be said of
        what is scattered.
        """
        return self.submit(_same, value)

    def fetch(self, futures: Sequence[Future]) -> list[Any]:
        """Wait for results, and return them.

        Raises
        ------
        RuntimeError
            If there is no worker any more.
        """
        # Dask would wait for workers forever.
        results = self._waiting.submit(self.client.gather, futures)
        alone_since = None
        while True:
            try:
                return results.result(timeout=_GLANCE)
            except TimeoutError:
                if results.done():
                    return results.result()
            now = time.monotonic()
            alone_since = None if self.client.nthreads() else (alone_since or now)
            if alone_since is not None and now - alone_since >= _PATIENCE:
                self.client.cancel(futures)
                raise RuntimeError(
                    "All workers of the cluster are lost, and none has come back. A fit with "
                    "skevo.callbacks.Checkpoint goes on where it was when it is started again."
                )

    def by_worker(self, futures: Sequence[Future]) -> list[Future]:
        """Return futures, those of which a worker has the results side by side."""
        homes = self.client.who_has(futures)
        return sorted(futures, key=lambda future: sorted(homes.get(future.key, ())))

    def total(self, futures: Sequence[Future]) -> Any:
        """Return the sum of results, which workers add up."""
        while len(futures) > 1:
            futures = [
                self.submit(_add, *futures[start : start + _FAN_IN])
                for start in range(0, len(futures), _FAN_IN)
            ]
        return self.fetch(futures)[0]


def _same(value: Any) -> Any:
    return value


def _add(*parts: Any) -> Any:
    if isinstance(parts[0], tuple):
        return tuple(reduce(operator.add, part) for part in zip(*parts, strict=True))
    return reduce(operator.add, parts)
