"""Works on batches: checks the file, answers its lines side by side, writes the results to files.

Whatever is finished is in the database, so a gateway that is killed goes on where it was: only the lines that were
being answered are asked again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial

from tunesmith_gateway.batches.admission import Admission
from tunesmith_gateway.batches.answering import LineAnswerer
from tunesmith_gateway.batches.checking import InputChecker
from tunesmith_gateway.batches.lines import Line, read
from tunesmith_gateway.batches.repository import BatchRepository
from tunesmith_gateway.batches.schemas import BatchError
from tunesmith_gateway.batches.writing import ResultWriter
from tunesmith_shared.tables import Batch

SWEEP_SECONDS = 2.0
MOST_ATTEMPTS = 3

_logger = logging.getLogger("tunesmith.batches")


class BatchRunner:
    """Takes unfinished batches and brings each to its end; `concurrency` lines are in work at once over all of them.

    `name` is this gateway's, the same after a restart: it goes on at once with what it held before.
    """

    def __init__(
        self,
        name: str,
        repository: BatchRepository,
        checker: InputChecker,
        admission: Admission,
        answerer: LineAnswerer,
        writer: ResultWriter,
        concurrency: int,
    ) -> None:
        self._name = name
        self._repository = repository
        self._checker = checker
        self._admission = admission
        self._answerer = answerer
        self._writer = writer
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._wake = asyncio.Event()
        self._batches: dict[str, asyncio.Task[None]] = {}
        self._lines: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work on batches inside the block. At its end lines in work are left, to be asked again by the next start."""
        loop = asyncio.create_task(self._loop())
        try:
            yield
        finally:
            tasks = [loop, *self._batches.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._repository.release(self._name)

    def wake(self) -> None:
        """Look for new batches now."""
        self._wake.set()

    def stop_lines(self, batch_id: str) -> None:
        """Stop the lines in work of a batch that was cancelled."""
        if task := self._lines.get(batch_id):
            task.cancel()

    async def _loop(self) -> None:
        while True:
            try:
                await self._sweep()
            except Exception as error:  # a database that is gone comes back; the next sweep sees
                _logger.warning("batches wait: %s", error)
            self._wake.clear()
            try:
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        for batch_id in await self._repository.renew(self._name, list(self._batches)):
            self.stop_lines(batch_id)
        for batch_id in await self._repository.claim(self._name, list(self._batches)):
            task = asyncio.create_task(self._bring_to_end(batch_id))
            self._batches[batch_id] = task
            task.add_done_callback(partial(self._forget, batch_id))

    def _forget(self, batch_id: str, _task: asyncio.Task[None]) -> None:
        del self._batches[batch_id]

    async def _bring_to_end(self, batch_id: str) -> None:
        try:
            batch = await self._repository.get(batch_id)
            if batch.status == "validating":
                await self._checker.check(batch)
                batch = await self._repository.get(batch_id)
            if batch.status == "in_progress":
                await self._work(batch)
                batch = await self._repository.get(batch_id)
            if batch.status in ("finalizing", "cancelling"):
                await self._writer.write(batch)
        except Exception as error:  # the state stays as it is, and a later sweep takes the batch again
            _logger.warning("batch %s is interrupted", batch_id, exc_info=error)

    async def _work(self, batch: Batch) -> None:
        """Answer the lines that have no result, until all have one or the batch is cancelled."""
        if batch.attempts > MOST_ATTEMPTS:
            await self._give_up(batch)
            return
        lines = asyncio.create_task(self._answer_lines(batch))
        self._lines[batch.id] = lines
        try:
            await asyncio.wait((lines,))
        finally:
            lines.cancel()
            del self._lines[batch.id]
            await asyncio.gather(lines, return_exceptions=True)
        if lines.cancelled():
            return
        lines.result()
        await self._repository.move(batch.id, ["in_progress"], "finalizing")

    async def _answer_lines(self, batch: Batch) -> None:
        finished = await self._repository.finished_lines(batch.id)
        path = await self._checker.path(batch)
        with closing(read(path, self._checker.longest_line, finished)) as lines:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._take_lines(batch, lines))

    async def _take_lines(self, batch: Batch, lines: Iterator[Line]) -> None:
        """Answer one line after the other; several of these share `lines`, and all batches the slots."""
        for line in lines:
            # The place first: a line that waits for its key's limits must not keep those of other keys from running.
            async with self._admission.place(batch), self._slots:
                succeeded, result = await self._answerer.answer(batch, line)
            await self._repository.finish_line(batch.id, line.number, succeeded=succeeded, result=result)

    async def _give_up(self, batch: Batch) -> None:
        message = (
            f"The work on this batch was broken off {MOST_ATTEMPTS} times without one more line being finished; the "
            "gateway's log says why. The lines that were finished are kept in the output file."
        )
        error = BatchError(code="interrupted", message=message).model_dump()
        await self._writer.write(batch, failed_because=[error])
