"""Loading, sharing, keeping and evicting, with processes that only count."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tunesmith_engine.process import ModelProcess, RunnerFailed
from tunesmith_engine.residency import Limits
from tunesmith_engine.scheduler import Demand, OutOfMemory, Scheduler
from tunesmith_engine.specification import Specification
from tunesmith_shared.errors import Unavailable

SPECIFICATION = Specification("", (), False, 64, 1, 1, 32, True)


class CountingProcess(ModelProcess):
    """A process that is none; it notes what is done to it."""

    log: list[str]
    gate: asyncio.Event | None = None
    failure: Exception | None = None

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.running = False

    @property
    def alive(self) -> bool:
        return self.running

    @property
    def pid(self) -> int | None:
        return None

    async def start(self, timeout_seconds: float) -> None:  # noqa: ARG002 - the interface
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.running = True
        self.log.append(f"start {self.specification.model_path}")

    async def stop(self) -> None:
        self.running = False
        self.log.append(f"stop {self.specification.model_path}")


@pytest.fixture
def process() -> type[CountingProcess]:
    """A class of processes of the test's own."""

    class Own(CountingProcess):
        log: list[str] = []  # noqa: RUF012 - shared by this test's processes on purpose

    return Own


def scheduler_of(process: type[CountingProcess], *, waiting: int = 10) -> Scheduler:
    return Scheduler(Limits(bytes=100, models=3), max_waiting=waiting, load_seconds=1, new_process=process)


def demand(path: str, size: int = 40, keep_alive: float | None = 60.0) -> Demand:
    return Demand(path, "digest", {}, replace(SPECIFICATION, model_path=path), size, keep_alive)


async def eventually(condition: Callable[[], bool]) -> None:
    """Give other tasks turns until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - turns are what passes here, not time
            await asyncio.sleep(0)


def using(scheduler: Scheduler, wanted: Demand, until: asyncio.Event) -> asyncio.Task[None]:
    async def use() -> None:
        async with scheduler.use(wanted):
            await until.wait()

    return asyncio.create_task(use())


async def test_requests_of_one_model_share_one_load(process: type[CountingProcess]) -> None:
    scheduler = scheduler_of(process)
    process.gate = asyncio.Event()
    done = asyncio.Event()
    tasks = [using(scheduler, demand("a"), done) for _ in range(5)]
    process.gate.set()
    await eventually(lambda: bool(scheduler.loaded()) and scheduler.loaded()[0].users == 5)
    assert process.log == ["start a"]
    done.set()
    await asyncio.gather(*tasks)
    await scheduler.close()
    assert process.log == ["start a", "stop a"]


async def test_keep_alive_zero_unloads_after_the_last_user_and_none_never(process: type[CountingProcess]) -> None:
    scheduler = scheduler_of(process)
    async with scheduler.use(demand("kept", keep_alive=None)):
        pass
    assert scheduler.loaded()[0].remaining_seconds is None
    done = asyncio.Event()
    first = using(scheduler, demand("a", keep_alive=0), done)
    await eventually(lambda: len(scheduler.loaded()) == 2)
    async with scheduler.use(demand("a", keep_alive=0)):
        pass
    assert "stop a" not in process.log
    done.set()
    await first
    await eventually(lambda: "stop a" in process.log)
    assert [model.name for model in scheduler.loaded()] == ["kept"]
    await scheduler.close()


async def test_a_new_model_waits_for_busy_ones_and_evicts_the_idle(process: type[CountingProcess]) -> None:
    scheduler = scheduler_of(process)
    done = asyncio.Event()
    busy = using(scheduler, demand("busy", 60), done)
    await eventually(lambda: "start busy" in process.log)
    waiting = using(scheduler, demand("big", 80), done)
    for _ in range(20):
        await asyncio.sleep(0)
    assert "start big" not in process.log
    done.set()
    await asyncio.gather(busy, waiting)
    assert process.log == ["start busy", "stop busy", "start big"]
    await scheduler.close()


async def test_a_dead_process_is_replaced(process: type[CountingProcess]) -> None:
    scheduler = scheduler_of(process)
    async with scheduler.use(demand("a")) as loaded:
        assert isinstance(loaded.process, CountingProcess)
        loaded.process.running = False
    assert scheduler.loaded() == []
    async with scheduler.use(demand("a")) as again:
        assert again.process.alive
    assert process.log == ["start a", "stop a", "start a"]
    await scheduler.close()


async def test_a_failed_load_is_told_and_the_next_one_is_tried(process: type[CountingProcess]) -> None:
    scheduler = scheduler_of(process)
    process.failure = RunnerFailed("unable to load model: no")
    with pytest.raises(RunnerFailed, match="no"):
        await _use(scheduler, demand("a"))
    process.failure = None
    await _use(scheduler, demand("a"))
    await scheduler.close()


async def test_what_never_fits_and_what_is_too_much_is_refused(process: type[CountingProcess]) -> None:
    scheduler = scheduler_of(process, waiting=1)
    with pytest.raises(OutOfMemory, match="requires more system memory"):
        await _use(scheduler, demand("huge", 101))
    process.gate = asyncio.Event()
    done = asyncio.Event()
    first = using(scheduler, demand("a"), done)
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="maximum pending requests exceeded"):
        await _use(scheduler, demand("b"))
    process.gate.set()
    done.set()
    await first
    await scheduler.close()


async def test_unload_ends_an_idle_model_at_once(process: type[CountingProcess]) -> None:
    scheduler = scheduler_of(process)
    await _use(scheduler, demand("a"))
    await scheduler.unload(demand("a").specification)
    assert process.log == ["start a", "stop a"]


async def _use(scheduler: Scheduler, wanted: Demand) -> None:
    async with scheduler.use(wanted):
        pass


def adapter_demand(*adapters: str) -> Demand:
    return Demand("m", "digest", {}, replace(SPECIFICATION, model_path="base", adapter_paths=adapters), 40, 60.0)


async def test_models_on_one_base_share_a_process_that_has_their_adapters(process: type[CountingProcess]) -> None:
    there: tuple[str, ...] = ("a", "b")

    def widen(specification: Specification) -> Specification:
        return replace(specification, adapter_paths=there)

    limits = Limits(bytes=100, models=3)
    scheduler = Scheduler(limits, max_waiting=10, load_seconds=1, new_process=process, widen=widen)
    for adapters in ((), ("a",), ("b",), ()):
        async with scheduler.use(adapter_demand(*adapters)) as model:
            assert model.process.specification.adapter_paths == ("a", "b")
    assert process.log == ["start base"]
    there = ("a", "b", "new")
    async with scheduler.use(adapter_demand("new")) as model:
        assert model.process.specification.adapter_paths == there
    assert process.log == ["start base", "start base"]
    await scheduler.unload(adapter_demand("a").specification)
    await scheduler.unload(adapter_demand("new").specification)
    assert scheduler.loaded() == []


async def test_an_adapter_that_cannot_be_loaded_does_not_keep_its_base_away(process: type[CountingProcess]) -> None:
    class Strict(process):  # type: ignore[misc,valid-type]
        async def start(self, timeout_seconds: float) -> None:
            if "broken" in self.specification.adapter_paths:
                raise RunnerFailed("no such tensor")
            await super().start(timeout_seconds)

    limits = Limits(bytes=100, models=3)
    scheduler = Scheduler(
        limits,
        max_waiting=10,
        load_seconds=1,
        new_process=Strict,
        widen=lambda specification: replace(specification, adapter_paths=("broken",)),
    )
    async with scheduler.use(adapter_demand()) as model:
        assert model.process.specification.adapter_paths == ()
