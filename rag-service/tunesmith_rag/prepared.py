"""The embedding model in OpenVINO's own files, half as large as the package's weights.

    python -m tunesmith_rag.prepared <folder of the model>

writes them in place of the weights, in half precision, when the container image is built, which then does without the
package that writes graphs. Elsewhere the graph is made from the weights at each start.
"""

import sys
from pathlib import Path

from tunesmith_rag.openvino_cpu import Core, Model, save_model

_PREPARED, _WEIGHTS = "openvino.xml", "model.safetensors"


def read(core: Core, folder: Path) -> Model:
    """Return the model in `folder`: as it was prepared, or else written from its weights."""
    prepared = folder / _PREPARED
    if prepared.exists():
        return core.read_model(prepared)
    from tunesmith_rag.bert_graph import graph_of  # noqa: PLC0415 - the image has not got what it needs

    return core.read_model(graph_of(folder))


def main(folder: Path) -> None:
    """Prepare the model in `folder`, and remove its weights."""
    save_model(read(Core(), folder), folder / _PREPARED, compress_to_fp16=True)
    (folder / _WEIGHTS).unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
