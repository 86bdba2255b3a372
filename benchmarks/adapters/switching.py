"""What changing from one fine-tuned adapter to another costs: `python -m benchmarks.adapters.switching`.

Two adapters of rank 16 with random weights are registered on SmolLM2-135M. Each round asks one and then the other for
one token; once as the engine serves them, from the process of their base, and once with that process ended after each
answer, so that the base is loaded anew, as servers do that keep a process for each adapter. Prints the median seconds
an answer in both ways, and their ratio.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ollama import Client

from tunesmith_finetune.base_models import BASE_MODELS, packaged_gguf
from tunesmith_finetune.base_store import BaseModelStore
from tunesmith_finetune.export import Exporter
from tunesmith_finetune.llama_cpp import Toolbox
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_shared.names import ModelName
from tunesmith_shared.store import ModelStore, publish_adapter
from tunesmith_shared.testing import platform_at, wait_for_models

BASE = BASE_MODELS["smollm2-135m-instruct"]
ROUNDS = 10
NAMES = ("one", "two")
LIMITS = Limits(None, 3600)

RANDOM_ADAPTER = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
torch.manual_seed(int(sys.argv[3]))
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
get_peft_model(model, config).save_pretrained(sys.argv[2])
"""


async def make_adapters(folder: Path, settings: WorkerSettings) -> dict[str, Path]:
    """Return two adapters as GGUF."""
    base = await BaseModelStore(settings.cache_dir, LIMITS).prepare(BASE)
    tools = await Toolbox(settings.cache_dir, settings.llama_cpp_requirements, LIMITS).get()
    exporter = Exporter(tools, LIMITS, folder / "log")
    made = {}
    for seed, name in enumerate(NAMES):
        command = [sys.executable, "-c", RANDOM_ADAPTER, str(base), str(folder / name), str(seed)]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        made[name] = folder / f"{name}.gguf"
        await exporter.adapter_to_gguf(folder / name, base, made[name])
    return made


def answer_seconds(client: Client, keep_alive: str | int) -> float:
    """Return the median time of an answer of one token, the two adapters taking turns."""
    taken = []
    for _ in range(ROUNDS):
        for name in NAMES:
            started = time.perf_counter()
            client.generate(name, "Hello", raw=True, options={"num_predict": 1}, keep_alive=keep_alive)
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch, platform_at(Path(scratch)) as platform:
        folder = Path(scratch)
        adapters = asyncio.run(make_adapters(folder, WorkerSettings()))
        platform.start("engine")
        wait_for_models(platform.services["engine"].url, "smollm2:135m")
        store = ModelStore(folder / "models")
        for name, file in adapters.items():
            publish_adapter(
                store, ModelName.parse(name), packaged_gguf(BASE), file, base_name="smollm2:135m", parameters=None
            )
        with Client(platform.services["engine"].url) as client:
            answer_seconds(client, "5m")
            shared, reloaded = answer_seconds(client, "5m"), answer_seconds(client, 0)
    sys.stdout.write(f"one process for both: {shared:.3f} s an answer\n")
    sys.stdout.write(f"base loaded anew:     {reloaded:.3f} s an answer, {reloaded / shared:.1f} times as long\n")


if __name__ == "__main__":
    main()
