"""Loads models when they are asked for, keeps them as long as asked, and makes room for others."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass

from tunesmith_engine.process import ModelProcess, RunnerFailed
from tunesmith_engine.residency import Limits, Resident, choose_evictions
from tunesmith_engine.slots import Slots
from tunesmith_engine.specification import Specification
from tunesmith_shared.errors import TunesmithError, Unavailable

_logger = logging.getLogger("tunesmith.engine.scheduler")


class OutOfMemory(TunesmithError):
    """A model is larger than all the memory that models may take."""

    status = 500
    type = "api_error"


@dataclass(slots=True)
class LoadedModel:
    """A running model process and who uses it. Times are of the monotonic clock, in seconds."""

    name: str
    digest: str
    details: dict[str, object]
    process: ModelProcess
    slots: Slots
    bytes: int
    used_at: float
    keep_alive: float | None
    users: int = 0
    expiry: asyncio.TimerHandle | None = None

    @property
    def remaining_seconds(self) -> float | None:
        """How long it stays when nobody asks; None is for ever."""
        if self.keep_alive is None:
            return None
        return max(0.0, self.used_at + self.keep_alive - time.monotonic())


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request wants loaded. ``keep_alive`` is in seconds, None for ever."""

    name: str
    digest: str
    details: dict[str, object]
    specification: Specification
    bytes: int
    keep_alive: float | None


class Scheduler:
    """The loaded models of this engine. All methods run on one event loop."""

    def __init__(
        self,
        limits: Limits,
        *,
        max_waiting: int,
        load_seconds: float,
        new_process: Callable[[Specification], ModelProcess] = ModelProcess,
        widen: Callable[[Specification], Specification] = lambda specification: specification,
    ) -> None:
        """`widen` adds to a specification what a process of it may serve too; it blocks on the disk."""
        self._limits = limits
        self._max_waiting = max_waiting
        self._load_seconds = load_seconds
        self._new_process = new_process
        self._widen = widen
        self._loaded: dict[Specification, LoadedModel] = {}
        self._changed = asyncio.Condition()
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def loaded(self) -> list[LoadedModel]:
        """The running models, the most recently used first."""
        alive = (model for model in self._loaded.values() if model.process.alive)
        return sorted(alive, key=lambda model: model.used_at, reverse=True)

    @contextlib.asynccontextmanager
    async def use(self, demand: Demand) -> AsyncIterator[LoadedModel]:
        """A loaded model for the time of the block. Raises Unavailable, OutOfMemory, RunnerFailed."""
        model = await self._acquire(demand)
        try:
            yield model
        finally:
            self._release(model)

    async def unload(self, specification: Specification) -> None:
        """End a model as soon as nobody uses it."""
        model = self._find(specification)
        if model is None:
            return
        model.keep_alive = 0.0
        if model.users == 0:
            await self._stop_surely(model.process.specification, model)

    async def close(self) -> None:
        """End all models, used or not."""
        for specification, model in list(self._loaded.items()):
            await self._stop(specification, model)
        await asyncio.gather(*self._tasks)

    async def _acquire(self, demand: Demand) -> LoadedModel:
        model = self._take(demand)
        if model is not None:
            return model
        if self._waiting >= self._max_waiting:
            raise Unavailable("server busy, please try again.  maximum pending requests exceeded")
        self._waiting += 1
        try:
            async with self._changed:
                while True:
                    model = self._take(demand) or await self._try_load(demand)
                    if model is not None:
                        return model
                    await self._changed.wait()
        finally:
            self._waiting -= 1

    def _take(self, demand: Demand) -> LoadedModel | None:
        """The model when it runs already."""
        model = self._find(demand.specification)
        if model is None:
            return None
        if model.expiry is not None:
            model.expiry.cancel()
            model.expiry = None
        model.users += 1
        model.name, model.digest, model.details = demand.name, demand.digest, demand.details
        model.keep_alive, model.used_at = demand.keep_alive, time.monotonic()
        return model

    def _find(self, wanted: Specification) -> LoadedModel | None:
        """A running model that can answer for a specification."""
        for specification, model in self._loaded.items():
            if specification.serves(wanted) and model.process.alive:
                return model
        return None

    async def _try_load(self, demand: Demand) -> LoadedModel | None:
        """Make room and load; None when there is no room until somebody finishes. The caller holds the condition."""
        if demand.bytes > self._limits.bytes:
            needed, there = demand.bytes / 2**30, self._limits.bytes / 2**30
            raise OutOfMemory(
                f"model requires more system memory ({needed:.1f} GiB) than is available ({there:.1f} GiB)"
            )
        for specification, model in list(self._loaded.items()):
            if not model.process.alive:
                await self._stop_surely(specification, model)
        residents = [Resident(key, model.bytes, model.used_at, model.users > 0) for key, model in self._loaded.items()]
        evictions = choose_evictions(residents, demand.bytes, self._limits)
        if evictions is None:
            return None
        for specification, model in list(self._loaded.items()):
            if specification in evictions:
                await self._stop_surely(specification, model)
        started = time.monotonic()
        process = await self._start(demand.specification)
        ready = time.monotonic()
        _logger.info("loaded %s in %.2f s (process %s)", demand.name, ready - started, process.pid)
        loaded = LoadedModel(
            name=demand.name,
            digest=demand.digest,
            details=demand.details,
            process=process,
            slots=Slots(demand.specification.parallel),
            bytes=demand.bytes,
            used_at=ready,
            keep_alive=demand.keep_alive,
            users=1,
        )
        self._loaded[process.specification] = loaded
        return loaded

    async def _start(self, specification: Specification) -> ModelProcess:
        """Start a process, with the adapters of other models on the same base if they can be loaded beside."""
        widened = await asyncio.to_thread(self._widen, specification)
        if widened != specification:
            process = self._new_process(widened)
            try:
                await process.start(self._load_seconds)
            except RunnerFailed:
                _logger.warning("loading %s alone: not all adapters can be loaded beside it", specification.model_path)
            else:
                return process
        process = self._new_process(specification)
        await process.start(self._load_seconds)
        return process

    def _release(self, model: LoadedModel) -> None:
        model.users -= 1
        model.used_at = time.monotonic()
        if model.users == 0:
            if model.keep_alive is not None:
                loop = asyncio.get_running_loop()
                key = model.process.specification
                model.expiry = loop.call_later(model.keep_alive, self._expire, key, model)
            self._spawn(self._notify())

    def _expire(self, specification: Specification, model: LoadedModel) -> None:
        if model.users == 0 and self._loaded.get(specification) is model:
            self._spawn(self._stop(specification, model))

    async def _stop_surely(self, specification: Specification, model: LoadedModel) -> None:
        """End a model, even when the request that asked for it is cancelled meanwhile."""
        await asyncio.shield(self._spawn(self._stop(specification, model)))

    async def _stop(self, specification: Specification, model: LoadedModel) -> None:
        """Forget a model first, so that nobody takes it any more, then end its process."""
        if self._loaded.get(specification) is model:
            del self._loaded[specification]
        if model.expiry is not None:
            model.expiry.cancel()
        await model.process.stop()
        _logger.info("unloaded %s (process %s)", model.name, model.process.pid)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
