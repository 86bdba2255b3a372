"""OpenVINO, imported without two things that a service does without. Import it from here and nowhere else.

Its converter of models, which the package's `__init__` imports only where it can, sends statistics of use to the
makers as soon as it is imported; it is not needed to run a model.

And AMX: virtual machines exist whose processor announces it while the system does not allow it, and its first
instruction ends the process. Two environment variables, both of which must be set before the library is loaded, keep
OpenVINO and its oneDNN from it, and leave them everything below (OpenVINO's page "Max ISA cap").
"""

import os
import sys
from collections.abc import Collection

from tunesmith_shared.processor import flags

_WITHOUT_AMX = dict.fromkeys(("OV_CPU_MAX_ISA", "ONEDNN_MAX_CPU_ISA"), "AVX512_CORE_BF16")


def limits(has: Collection[str]) -> dict[str, str]:
    """Return the environment variables for a processor that has these flags, as `/proc/cpuinfo` names them."""
    return _WITHOUT_AMX if any(flag.startswith("amx_") for flag in has) else {}


for _name, _value in limits(flags()).items():
    os.environ.setdefault(_name, _value)
sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type] # what importing it raises, it expects

from openvino import CompiledModel, Core, InferRequest, Model, save_model  # noqa: E402 - after the above

__all__ = ["CompiledModel", "Core", "InferRequest", "Model", "limits", "save_model"]
