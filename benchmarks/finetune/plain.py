"""The plainest script that trains with TRL: what a job is measured against. A child process of the benchmark.

    python plain.py <request.json>

The request has `base_folder`, `rows` (prompt, completion), `hyperparameters`, `bf16` and `threads`. Prints one JSON
object: seconds of training, and its tokens.
"""

import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]


def main(request: Path) -> None:
    """Train as the request says."""
    asked = json.loads(request.read_text())
    chosen = asked["hyperparameters"]
    torch.set_num_threads(asked["threads"])
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(asked["base_folder"], dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(request.parent / "plain"),
            num_train_epochs=chosen["n_epochs"],
            per_device_train_batch_size=chosen["batch_size"],
            learning_rate=chosen["learning_rate"],
            max_length=chosen["max_length"],
            gradient_checkpointing=chosen["gradient_checkpointing"],
            bf16=asked["bf16"],
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            seed=7,
        ),
        train_dataset=Dataset.from_list(asked["rows"]),
        peft_config=LoraConfig(
            r=chosen["lora_rank"], lora_alpha=chosen["lora_alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    tokens = max(entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry)
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "tokens": tokens}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
