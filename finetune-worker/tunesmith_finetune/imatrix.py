"""Which weights matter for the training data: the text that llama-imatrix reads, and how it reads it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from tunesmith_finetune.export import Exporter
from tunesmith_finetune.whole import write_text
from tunesmith_finetune.workspace import Workspace, read_json
from tunesmith_shared.errors import BadRequest

MOST_TOKENS = 20_000
"""Enough for a steady matrix; SmolLM2-135M reads them in about a minute on two cores."""

CONTEXT = 512
LEAST_CONTEXT = 16


async def compute_imatrix(exporter: Exporter, workspace: Workspace) -> int:
    """Write the job's importance matrix; gives the number of tokens that it is made from. Raises `BadRequest`."""
    base_folder = Path(read_json(workspace.plan)["base_folder"])
    text = workspace.folder / "imatrix.txt"
    tokens = await asyncio.to_thread(_write_rows, base_folder, workspace.tokens("train"), text)
    context = min(CONTEXT, tokens // 4)  # llama-imatrix wants two pieces at least, and may find fewer tokens in a text
    if context < LEAST_CONTEXT:
        raise BadRequest(
            f"The training data has {tokens} tokens, too few for an importance matrix. Leave 'imatrix' out.",
            param="hyperparameters.imatrix",
        )
    try:
        await exporter.imatrix(workspace.merged_gguf, text, workspace.imatrix, context)
    finally:
        text.unlink(missing_ok=True)
    return tokens


def _write_rows(base_folder: Path, rows: Path, output: Path) -> int:
    """Write what the model reads in training, up to a limit, as text; gives its number of tokens."""
    tokenizer = Tokenizer.from_file(str(base_folder / "tokenizer.json"))
    count = 0

    def texts() -> Iterator[str]:
        nonlocal count
        with rows.open(encoding="utf-8") as lines:
            for line in lines:
                ids = _ids(json.loads(line))
                count += len(ids)
                yield tokenizer.decode(ids, skip_special_tokens=False) + "\n"
                if count >= MOST_TOKENS:
                    return

    write_text(output, texts())
    return count


def _ids(row: dict[str, list[int]]) -> list[int]:
    if "input_ids" in row:
        return row["input_ids"]
    return row["prompt_ids"] + row["chosen_ids" if "chosen_ids" in row else "completion_ids"]
