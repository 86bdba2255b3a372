"""Vectors are the same on every processor, and importing OpenVINO neither sends anything nor allows it AMX."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from tunesmith_rag.openvino_cpu import limits

TEXTS = [
    "A cat",
    "Ferries leave at half past nine. " * 4,
    "naïve façade, ünïcödé",
    "The harbour master keeps lists. " * 30,
]
EMBED = """
import asyncio, json, sys
from tunesmith_rag import openvino_cpu
from tunesmith_rag.embed_openvino import OpenVinoEmbedder

async def main():
    embedder = OpenVinoEmbedder(256, 8, 1)
    vectors = await embedder.embed("all-minilm", json.loads(sys.argv[1]), 0)
    await embedder.close()
    abilities = openvino_cpu.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    strangers = [name for name in sys.modules if sys.modules[name] and name.startswith(
        ("openvino.tools.ovc", "openvino_telemetry", "torch"))]
    print(json.dumps({"vectors": vectors, "abilities": abilities, "strangers": strangers}))

asyncio.run(main())
"""


def embedded(environment: Mapping[str, str]) -> dict[str, Any]:
    """What a process with these environment variables makes of `TEXTS`."""
    command = [sys.executable, "-c", EMBED, json.dumps(TEXTS)]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_processor_that_announces_amx_is_used_without_it() -> None:
    plain = ["sse4_2", "avx2", "avx512f", "avx512_bf16"]
    assert limits(plain) == {}
    assert limits([*plain, "amx_bf16", "amx_tile", "amx_int8"]) == {
        "OV_CPU_MAX_ISA": "AVX512_CORE_BF16",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
    }


def test_all_processors_make_the_same_vectors() -> None:
    here = embedded({})
    assert here["strangers"] == []
    # As OpenVINO works where there is AMX; and on a processor from before bfloat16, which shows that it does obey.
    without_amx = embedded(limits(["amx_tile"]))
    older = embedded(dict.fromkeys(limits(["amx_tile"]), "AVX2"))
    assert ("BF16" in without_amx["abilities"], "BF16" in older["abilities"]) == ("BF16" in here["abilities"], False)
    for other in (without_amx, older):
        likeness = (np.array(here["vectors"]) * np.array(other["vectors"])).sum(axis=1)
        assert likeness.min() > 0.9995
