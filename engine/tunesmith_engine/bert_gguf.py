"""Convert a sentence-transformers BERT (safetensors, WordPiece) to GGUF, without torch.

The result has the tensors and the model's metadata of llama.cpp's ``convert_hf_to_gguf.py``
(compared tensor by tensor), without the model card's lists of data sets.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

logging.getLogger("gguf").setLevel(logging.WARNING)  # it reports every file at the level "info"

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}
_UNUSED_TENSORS = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
# llama.cpp adds these to activations and wants them whole; the converter keeps them in float32 too.
_FLOAT32_TENSORS = ("position_embd.weight", "token_types.weight")
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SPACE = "\u2581"


def convert_bert(folder: Path, target: Path, name: str) -> None:
    """Write ``target`` from the model's folder (config, vocabulary, pooling, safetensors); matrices become float16."""
    config = _json(folder / "config.json")
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_type("model")
    writer.add_name(name)
    writer.add_license("apache-2.0")
    _add_shape(writer, config)
    writer.add_pooling_type(_pooling(folder))
    _add_vocabulary(writer, (folder / "vocab.txt").read_text(encoding="utf-8").splitlines(), config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for source, tensor in read_safetensors(folder / "model.safetensors"):
        source_name = source.removeprefix("bert.")
        if source_name in _UNUSED_TENSORS:
            continue
        target_name = names.get_name(source_name, try_suffixes=(".weight", ".bias"))
        if target_name is None:
            raise ValueError(f"{folder}: the tensor {source} has no place in a BERT GGUF")
        whole = tensor.ndim == 1 or target_name in _FLOAT32_TENSORS
        writer.add_tensor(target_name, tensor.astype(np.float32 if whole else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_safetensors(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """The tensors of a safetensors file, mapped and not read: a JSON header, then raw little-endian data."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + header_bytes)
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield name, data[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_causal_attention(False)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _pooling(folder: Path) -> gguf.PoolingType:
    pooling = _json(folder / "1_Pooling" / "config.json")
    return gguf.PoolingType.MEAN if pooling["pooling_mode_mean_tokens"] else gguf.PoolingType.CLS


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: list[str], config: dict[str, Any]) -> None:
    """WordPiece as llama.cpp reads it: word starts carry a mark, continuations lose theirs."""
    types = [gguf.TokenType.CONTROL if token in _SPECIAL_TOKENS else gguf.TokenType.NORMAL for token in vocabulary]
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list([_marked(token) for token in vocabulary])
    writer.add_token_types(types)
    writer.add_bos_token_id(vocabulary.index("[CLS]"))
    writer.add_eos_token_id(vocabulary.index("[SEP]"))
    writer.add_unk_token_id(vocabulary.index("[UNK]"))
    writer.add_sep_token_id(vocabulary.index("[SEP]"))
    writer.add_pad_token_id(vocabulary.index("[PAD]"))
    writer.add_mask_token_id(vocabulary.index("[MASK]"))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(False)
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", True)


def _marked(token: str) -> str:
    if token in _SPECIAL_TOKENS:
        return token
    return token[2:] if token.startswith("##") else _SPACE + token


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
