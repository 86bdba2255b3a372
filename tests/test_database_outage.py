"""PostgreSQL gone for seconds while everything works: nothing is lost, services become ready again by themselves.

`make test-postgres` runs it on a throwaway server, which the test stops (as a crash would) and starts.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fpdf
import httpx
import pytest

from tunesmith_shared.testing import Platform, platform_at, wait_for_models, wait_until

DATA, PROGRAMS = os.environ.get("POSTGRES_DATA", ""), os.environ.get("POSTGRES_BIN", "")
PAGES = 40
ROWS = "prompt,response\n" + "".join(f"Who keeps light {n}?,Keeper {n} does.\n" for n in range(8))

pytestmark = pytest.mark.skipif(not DATA, reason="needs a PostgreSQL server to stop: `make test-postgres` has one")


def control(*action: str) -> None:
    """Run `pg_ctl` as the owner of the server's folder."""
    command = [f"{PROGRAMS}/pg_ctl", "-D", DATA, "-w", "-l", f"{DATA}/../log", *action]
    subprocess.run(command, check=True, user=Path(DATA).owner(), cwd="/", stdout=subprocess.DEVNULL)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    slowly = {"TUNESMITH_EMBEDDER": "ollama", "TUNESMITH_EMBEDDING_BATCH": "1"}  # so that there is a middle
    with platform_at(tmp_path, **slowly) as platform:
        platform.start("engine", "rag", "worker", "gateway")
        wait_for_models(platform.services["engine"].url)
        yield platform


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=platform.url, headers={"authorization": f"Bearer {platform.key}"}, timeout=120
    ) as client:
        yield client


def long_pdf() -> bytes:
    document = fpdf.FPDF()
    document.set_font("helvetica", size=11)
    for number in range(PAGES):
        document.add_page()
        document.multi_cell(0, 6, f"Island {number} has a lighthouse that keeper {number} paints green.")
    return bytes(document.output())


def upload(client: httpx.Client, name: str, content: bytes, purpose: str) -> str:
    made: str = client.post("/v1/files", files={"file": (name, content)}, data={"purpose": purpose}).json()["id"]
    return made


def ready(platform: Platform) -> list[bool]:
    """Whether rag-service, worker and gateway each say that they can work."""
    services = [platform.services[name] for name in ("rag", "worker", "gateway")]
    return [httpx.get(f"{service.url}/health", timeout=60).status_code == 200 for service in services]


def chat(client: httpx.Client, text: str) -> httpx.Response:
    return client.post("/generate", json={"prompt": text, "session_id": "outage", "max_new_tokens": 4})


def test_a_database_that_is_gone_for_seconds_costs_nothing(platform: Platform, client: httpx.Client) -> None:
    assert chat(client, "Hello").status_code == 200
    store = client.post("/v1/vector_stores", json={"name": "islands"}).json()["id"]
    document = upload(client, "islands.pdf", long_pdf(), "assistants")
    client.post(f"/v1/vector_stores/{store}/files", json={"file_id": document})
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "lora_rank": 4}}}
    body = {"model": "smollm2-135m-instruct", "training_file": upload(client, "rows.csv", ROWS.encode(), "fine-tune")}
    job = client.post("/v1/fine_tuning/jobs", json={**body, "method": method}).json()["id"]

    def ingested() -> dict[str, Any]:
        shown: dict[str, Any] = client.get(f"/v1/vector_stores/{store}/files/{document}").json()
        return shown

    def training() -> bool:
        state: str = client.get(f"/v1/fine_tuning/jobs/{job}").json()["status"]
        assert state in ("validating_files", "queued", "running")
        return state == "running"

    wait_until(lambda: ingested()["progress"]["chunks_done"] >= 2, 300, "the document is half in")
    wait_until(training, 300, "the job runs")
    control("stop", "-m", "immediate")
    try:
        wait_until(lambda: not any(ready(platform)), 120, "every service says that it cannot work")
        refused = chat(client, "Are you there?")
        assert refused.status_code == 503
        assert "database" in refused.json()["error"]["message"]
        assert "retry-after" in refused.headers
    finally:
        control("start")
    wait_until(lambda: all(ready(platform)), 120, "every service is ready again, by itself")

    assert chat(client, "And now?").status_code == 200
    turns = client.get("/sessions/outage").json()["messages"]
    assert [turn["content"] for turn in turns if turn["role"] == "user"] == ["Hello", "And now?"]
    wait_until(lambda: ingested()["status"] != "in_progress", 300, "the ingestion ends")
    assert (ingested()["status"], ingested()["progress"]["chunks_done"]) == ("completed", PAGES)
    wait_until(
        lambda: client.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] not in ("queued", "running"),
        1200,
        "the job ends",
    )
    ended = client.get(f"/v1/fine_tuning/jobs/{job}").json()
    assert (ended["status"], ended["error"]) == ("succeeded", None)
