"""A BERT embedding model as an ONNX graph, written from its safetensors: no torch, no download, nothing on disk.

BERT's encoder (Devlin et al. 2018, arXiv:1810.04805), the mean over a text's tokens, and the vector's length made 1, as
sentence-transformers' all-MiniLM-L6-v2 is defined. Embedding, attention, the sums before layer normalisation and GELU
are ONNX Runtime's own fused operators for BERT (domain `com.microsoft`), which OpenVINO reads, too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

Array = np.ndarray[Any, Any]

_OPSET, _IR_VERSION = 17, 9
_FUSED = "com.microsoft"


def graph_of(folder: Path) -> bytes:
    """Return the ONNX model of the BERT encoder in `folder` (`config.json`, `model.safetensors`).

    Inputs: `tokens` and `mask` (1 where there is a token, 0 where padding), int32 [texts, length].
    Output: `vectors`, float32 [texts, hidden size], each of length 1.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    encoder = _Encoder(config, load_file(folder / "model.safetensors"))
    encoder.write()
    shape = ["texts", "length"]
    graph = helper.make_graph(
        encoder.nodes,
        "bert",
        [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("tokens", "mask")],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", config["hidden_size"]])],
        [numpy_helper.from_array(value, name) for name, value in encoder.constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString())


class _Encoder:
    """The nodes and constants of the graph, in the order in which they are computed."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        self._config = config
        self._weights = weights
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}

    def write(self) -> None:
        """Add everything from `tokens` and `mask` to `vectors`. Hidden states are [texts, length, hidden size]."""
        hidden = self._embed()
        for number in range(self._config["num_hidden_layers"]):
            hidden = self._layer(hidden, f"encoder.layer.{number}")
        self._pool(hidden)

    def _embed(self) -> str:
        words = self._weights["embeddings.word_embeddings.weight"]
        # Every token is of segment 0, so its row is added to the positions once and for all.
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        places = self._weights["embeddings.position_embeddings.weight"] + segment
        inputs = ["tokens", "", self._keep("words", words), self._keep("places", places), ""]
        outputs = ["embedded", "embedded.mask"]
        self._fused("EmbedLayerNormalization", [*inputs, *self._norm("embeddings.LayerNorm"), "mask"], outputs)
        return outputs[0]

    def _layer(self, hidden: str, name: str) -> str:
        attended = self._attend(hidden, f"{name}.attention.self")
        projected = self._product(attended, f"{name}.attention.output.dense")
        middle = self._add_and_normalise(projected, hidden, f"{name}.attention.output")
        widened = self._product(middle, f"{name}.intermediate.dense")
        active = f"{name}.active"
        self._fused("BiasGelu", [widened, self._bias(f"{name}.intermediate.dense")], [active])
        narrowed = self._product(active, f"{name}.output.dense")
        return self._add_and_normalise(narrowed, middle, f"{name}.output")

    def _attend(self, hidden: str, name: str) -> str:
        """Add multi-head attention: query, key and value in one product, padding masked."""
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        weights = np.concatenate([self._weights[f"{part}.weight"].T for part in parts], axis=1)
        biases = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        inputs = [hidden, self._keep(f"{name}.weights", weights), self._keep(f"{name}.biases", biases), "mask"]
        self._fused("Attention", inputs, [f"{name}.attended"], num_heads=self._config["num_attention_heads"])
        return f"{name}.attended"

    def _product(self, hidden: str, name: str) -> str:
        """Add `hidden` times a layer's weights; its bias is added by the operator that follows."""
        weights = self._keep(f"{name}.weight", np.ascontiguousarray(self._weights[f"{name}.weight"].T))
        self.nodes.append(helper.make_node("MatMul", [hidden, weights], [f"{name}.product"]))
        return f"{name}.product"

    def _add_and_normalise(self, hidden: str, residual: str, name: str) -> str:
        inputs = [hidden, residual, *self._norm(f"{name}.LayerNorm"), self._bias(f"{name}.dense")]
        self._fused("SkipLayerNormalization", inputs, [f"{name}.normalised"])
        return f"{name}.normalised"

    def _pool(self, hidden: str) -> None:
        """Add the mean over the tokens: their sum, since the length of the vector becomes 1 anyway."""
        self.nodes += [
            helper.make_node("Cast", ["mask"], ["mask.float"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask.float", self._keep("axis", np.array([1]))], ["mask.row"]),
            helper.make_node("MatMul", ["mask.row", hidden], ["sums"]),
            helper.make_node("Squeeze", ["sums", "axis"], ["sum"]),
            helper.make_node("LpNormalization", ["sum"], ["vectors"], axis=-1, p=2),
        ]

    def _fused(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        if "LayerNormalization" in operator:
            attributes["epsilon"] = self._config["layer_norm_eps"]
        self.nodes.append(helper.make_node(operator, inputs, outputs, domain=_FUSED, **attributes))

    def _norm(self, name: str) -> list[str]:
        return [self._keep(f"{name}.{part}", self._weights[f"{name}.{part}"]) for part in ("weight", "bias")]

    def _bias(self, name: str) -> str:
        return self._keep(f"{name}.bias", self._weights[f"{name}.bias"])

    def _keep(self, name: str, value: Array) -> str:
        self.constants[name] = value
        return name
