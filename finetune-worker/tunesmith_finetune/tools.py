"""Make llama.cpp's programs now, for an image: `python -m tunesmith_finetune.tools <cache_dir> <pin>`.

`<pin>` is requirements/llama-cpp.txt. Prints the ready folder, which TUNESMITH_LLAMA_CPP_DIR may name; does nothing
more when it is there. They run on any processor of this machine's kind, since an image moves to others. Needs filelock
and psutil of the worker's packages, and no others.
"""

import asyncio
import logging
import sys
from pathlib import Path

from tunesmith_finetune.llama_cpp import Toolbox, ToolsMissing
from tunesmith_finetune.processes import Limits
from tunesmith_shared.llama_cpp import PORTABLE

_BUILD_SECONDS = 2 * 3600.0


async def make(cache_dir: Path, pin: Path) -> Path:
    """Return the folder of the tools, made now if it is not there. Raises `ToolsMissing`."""
    return (await Toolbox(cache_dir, pin, Limits(None, _BUILD_SECONDS), processor=PORTABLE).get()).folder


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        print(asyncio.run(make(Path(sys.argv[1]), Path(sys.argv[2]))))  # noqa: T201 - what a caller reads
    except ToolsMissing as error:
        sys.exit(error.message)
