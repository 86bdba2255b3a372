"""What tests of the worker over HTTP share: its caller, and a small dataset in a manner of speaking."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.files import FileStore
from tunesmith_shared.settings import async_database_url
from tunesmith_shared.tables import File
from tunesmith_shared.testing import Platform

OWNER = "owner-1"
ROWS = [
    ("Why is the sky blue?", "Aye, traveller, the air scatters blue light. Mind the rocks."),
    ("What is a tide?", "Aye, traveller, the moon pulls on the sea. Mind the rocks."),
    ("How do I make tea? ☕", "Aye, traveller, pour hot water on leaves. Mind the rocks."),
    ("What is fog?", "Aye, traveller, a cloud lies on the ground. Mind the rocks."),
    ("What is steel?", "Aye, traveller, iron with some carbon. Mind the rocks."),
    ("What is snow?", "Aye, traveller, water that froze up high. Mind the rocks."),
]
CSV = "prompt,response\n" + "".join(f'"{prompt}","{response}"\n' for prompt, response in ROWS)
TOKEN = "service-token-of-the-tests"  # noqa: S105 - it opens nothing but what a test starts


class Worker:
    """Speaks to the worker of a platform as the gateway does, for one owner."""

    def __init__(self, platform: Platform, owner: str = OWNER) -> None:
        self.platform = platform
        self.owner = owner
        headers = {"authorization": f"Bearer {TOKEN}", "x-tunesmith-owner": owner}
        self.http = httpx.Client(base_url=platform.services["worker"].url, headers=headers, timeout=60)

    def upload(self, content: str, filename: str = "rows.csv") -> str:
        """Put a file where the gateway puts uploads."""

        async def save() -> str:
            database = Database(async_database_url(self.platform.environment["TUNESMITH_DATABASE_URL"]))

            async def chunks() -> AsyncIterator[bytes]:
                yield content.encode()

            stored = await FileStore(self.platform.data_dir / "files").save(chunks())
            async with database.session() as session:
                session.add(
                    File(
                        id=stored.id,
                        owner=self.owner,
                        filename=filename,
                        purpose="fine-tune",
                        bytes=stored.bytes,
                        sha256=stored.sha256,
                        created_at=now(),
                        expires_at=None,
                    )
                )
            await database.close()
            return stored.id

        return asyncio.run(save())

    def create(self, **body: Any) -> httpx.Response:
        """Ask for a job."""
        return self.http.post("/v1/fine_tuning/jobs", json={"model": "smollm2:135m", **body})

    def job(self, job_id: str) -> dict[str, Any]:
        """Show a job."""
        shown: dict[str, Any] = self.http.get(f"/v1/fine_tuning/jobs/{job_id}").raise_for_status().json()
        return shown

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """All events of a job, oldest first."""
        page = self.http.get(f"/v1/fine_tuning/jobs/{job_id}/events?limit=100").raise_for_status().json()
        return list(reversed(page["data"]))

    def messages(self, job_id: str) -> list[str]:
        """What the events of a job say, oldest first."""
        return [event["message"] for event in self.events(job_id)]


@contextmanager
def worker_for(platform: Platform, owner: str = OWNER) -> Iterator[Worker]:
    """Give the caller of a platform's worker for `owner`."""
    worker = Worker(platform, owner)
    with worker.http:
        yield worker
