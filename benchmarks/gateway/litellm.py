"""LiteLLM's proxy in a virtual environment of its own, outside the checkout, every package pinned by hash.

Version 1.91.1: several later releases on PyPI were compromised. `requirements.txt` is made from `requirements.in`.
"""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.gateway.upstream import MODEL

KEY = "sk-benchmark"

_PINS = Path(__file__).with_name("requirements.txt")
_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params: {{model: "openai/{model}", api_base: "{url}/v1", api_key: none}}
litellm_settings: {{set_verbose: false, telemetry: false}}
general_settings: {{master_key: {key}}}
"""


def installed() -> Path:
    """Return the environment's `bin` folder; the first call makes it, which takes a minute or two."""
    cache = Path(os.environ.get("TUNESMITH_CACHE_DIR", Path.home() / ".cache" / "tunesmith"))
    folder = cache / "benchmarks" / "litellm-1.91.1"
    binaries, whole = folder / "bin", folder / "installed.txt"
    if not whole.exists() or whole.read_bytes() != _PINS.read_bytes():
        print(f"installing LiteLLM into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = ["-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(_PINS)]
        subprocess.run([str(binaries / "python"), *install], check=True)
        whole.write_bytes(_PINS.read_bytes())
    return binaries


def command(folder: Path, upstream: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Return how to start the proxy on `port` before `upstream`, as its documentation advises for production."""
    config = folder / "litellm.yaml"
    config.write_text(_CONFIG.format(model=MODEL, url=upstream, key=KEY))
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return [str(installed() / "litellm"), *arguments], environment
