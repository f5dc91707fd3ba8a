"""The next batch of crops, cut while a step runs."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from shcodec.train.data import Crops
from shcodec.train.device_crops import DeviceCrops


class Ahead:
    """Batches of `Crops`, cut by another thread during the step before; of `DeviceCrops`, when they are asked for."""

    def __init__(self, crops: Crops | DeviceCrops, pool: ThreadPoolExecutor) -> None:
        self.crops, self.pool = crops, pool
        self.coming: tuple[tuple[int, int, int], Future[Any]] | None = None

    def batch(self, step: int, size: int, count: int) -> tuple[Any, Any]:
        """Return the crops and beta bytes of a step."""
        key = (step, size, count)
        if isinstance(self.crops, DeviceCrops):  # the device does the work, in order: a thread would gain nothing
            return self.crops.batch(*key)
        if self.coming is None or self.coming[0] != key:
            self.coming = (key, self.pool.submit(self.crops.batch, *key))
        batch: tuple[Any, Any] = self.coming[1].result()
        following = (step + 1, size, count)
        self.coming = (following, self.pool.submit(self.crops.batch, *following))
        return batch
