"""A job's report as result files: for machines, for people, as a table of steps, and as a model card."""

from collections.abc import AsyncIterator
from typing import Any

from tunesmith_finetune.model_card import as_model_card
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.report import as_json, as_markdown, build_report
from tunesmith_finetune.report_page import as_page
from tunesmith_finetune.results import as_csv
from tunesmith_finetune.workspace import read_json
from tunesmith_shared.clock import now
from tunesmith_shared.tables import File


async def store_report(pipeline: Pipeline, job_id: str) -> dict[str, Any]:
    """Store the report of a job that was verified, unless it is there, and give it."""
    job = await pipeline.jobs.get(job_id)
    workspace = pipeline.workspace(job)
    steps = [event.data for event in await pipeline.events.events_since(job.id, None) if event.type == "metrics"]
    report = build_report(job, workspace)
    if job.result_files:
        return report
    files = []
    for name, content in (
        ("report.json", as_json(report)),
        ("report.md", as_markdown(report)),
        ("results.csv", as_csv(steps, read_json(workspace.training)["after"])),
        ("report.html", as_page(report, steps)),
        ("README.md", as_model_card(report)),
    ):
        stored = await pipeline.files.save(_once(content.encode()))
        files.append(
            File(
                id=stored.id,
                owner=job.owner,
                filename=f"{job.id}-{name}",
                purpose="fine-tune-results",
                bytes=stored.bytes,
                sha256=stored.sha256,
                created_at=now(),
                expires_at=None,
            )
        )
    await pipeline.jobs.add_result_files(job.id, files)
    return report


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
