"""What a job made, and the names that it gets.

One type: the job's name. Several: the first one has the job's name, and each one a tag of its own (`keeper:q8_0`; after
a tag that was asked for, `keeper:v2-q8_0`). Names of one file share its blob, so they cost nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tunesmith_finetune.artifact import Artifact
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.hyperparameters import gguf_types
from tunesmith_finetune.measures import ADAPTER
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.workspace import Workspace, read_json
from tunesmith_shared.names import DEFAULT_TAG, ModelName
from tunesmith_shared.tables import Job


@dataclass(frozen=True)
class Product:
    """A finished model: its type ("adapter" when it is served on the base as it is), and the names that it gets."""

    label: str
    names: list[str]
    artifact: Artifact


async def products_of(pipeline: Pipeline, job: Job) -> list[Product]:
    """Return what the job made, the one with the job's own name first.

    Each serves with the base's options, except for those that the job names, and with the job's system prompt, or one
    that every training row begins with.
    """
    workspace, base = pipeline.workspace(job), await pipeline.base_model(job)
    body = job.request["body"]
    inherited = await pipeline.publisher.parameters_of([job.model, *base.served_as])
    parameters = {**pipeline.bases.parameters(base), **inherited, **(body.get("parameters") or {})}
    system = body.get("system") if body.get("system") is not None else common_system(workspace)
    types = gguf_types(read_json(workspace.plan)["hyperparameters"]["gguf_type"])
    if not types:
        base_name = (base.served_as or (base.name,))[0]
        served = await pipeline.bases.served_gguf(base)
        artifact = Artifact(served, parameters, workspace.adapter_gguf, base_name, system)
        return [Product(ADAPTER, [job.model_name], artifact)]
    return [
        Product(label, names, Artifact(workspace.model_gguf(label), parameters, system=system))
        for label, names in names_of(job.model_name, types).items()
    ]


def names_of(name: str, types: list[str]) -> dict[str, list[str]]:
    """Return the names that the model `name` has in each of its types."""
    if len(types) == 1:
        return {types[0]: [name]}
    parsed = ModelName.parse(name)
    prefix = "" if parsed.tag == DEFAULT_TAG else f"{parsed.tag}-"
    tagged = {
        label: ModelName(parsed.host, parsed.namespace, parsed.model, f"{prefix}{label.lower()}").display
        for label in types
    }
    return {label: [name, tag] if label == types[0] else [tag] for label, tag in tagged.items()}


def examples_of(workspace: Workspace, part: str) -> list[Example]:
    """Return the rows of the first dataset of a part; none when there is none."""
    path = workspace.examples(part, 0)
    return list(_read(path)) if path.exists() else []


def common_system(workspace: Workspace) -> str | None:
    """Return the system prompt that every training row begins with; None when they differ or have none."""
    found: set[str | None] = set()
    for path in sorted(workspace.folder.glob("train-*.examples.jsonl")):
        for example in _read(path):
            first = example["messages"][0] if example["messages"] else None
            found.add(first["content"] if first is not None and first["role"] == "system" else None)
            if len(found) > 1:
                return None
    return found.pop() if found else None


def _read(path: Path) -> list[Example]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
