"""A GGUF's weights in another quantisation: metadata as they were, weights as near as the new type allows."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType

from tunesmith_shared.errors import BadRequest
from tunesmith_shared.llama_cpp import native
from tunesmith_shared.store import read_gguf_header
from tunesmith_shared.store import requantise as requantise_module
from tunesmith_shared.store.requantise import requantise, served_type, write_served
from tunesmith_shared.testing import packaged_model

Q4_1, Q8_0 = GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0
AVX512 = {"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"}
HALF_A_STEP = 0.5 / 127
"""The error of a weight in Q8_0 at the most, as a part of the largest weight of its block."""


def test_metadata_stay_and_weights_are_as_near_as_eight_bits_allow(tmp_path: Path) -> None:
    source, target = packaged_model(), tmp_path / "eight.gguf"
    requantise(source, target, Q8_0)

    before, after = read_gguf_header(source), read_gguf_header(target)
    assert after.metadata == {**before.metadata, "general.file_type": 7}
    assert [(one.name, one.shape) for one in after.tensors] == [(one.name, one.shape) for one in before.tensors]
    assert {one.type for one in after.tensors} == {one.type for one in before.tensors} - {Q4_1}

    # llama.cpp's own reader of the format finds the same weights, a tensor of each type.
    old = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    new = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
    for name in ("blk.0.attn_norm.weight", "token_embd.weight", "blk.7.ffn_down.weight"):
        one, other = (gguf.dequantize(file[name].data, file[name].tensor_type) for file in (old, new))
        if old[name].tensor_type == Q4_1:
            blocks, others = one.reshape(-1, 32), other.reshape(-1, 32)
            allowed = np.abs(blocks).max(axis=1, keepdims=True) * (HALF_A_STEP + 2**-11)  # a block's scale is float16
            assert (np.abs(blocks - others) <= allowed).all()
            assert not np.array_equal(one, other)
        else:
            assert np.array_equal(one, other)


def test_in_bfloat16_each_weight_is_the_nearest_there_is(tmp_path: Path) -> None:
    source, target = packaged_model(), tmp_path / "half.gguf"
    write_served(source, target, "BF16")
    assert read_gguf_header(target).file_type == "BF16"
    old = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    new = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
    assert {tensor.tensor_type.name for tensor in new.values()} == {"F32", "BF16"}
    for name in ("blk.0.attn_norm.weight", "token_embd.weight", "blk.7.ffn_down.weight"):
        one, other = (gguf.dequantize(file[name].data, file[name].tensor_type) for file in (old, new))
        assert (np.abs(one - other) <= np.abs(one) * 2**-8).all()  # eight bits of a number, the first of them a one


@pytest.mark.parametrize(("flags", "kind"), [({"avx2", "avx512_bf16"}, "Q8_0"), (AVX512 | {"avx512_bf16"}, "BF16")])
def test_the_type_suits_the_processor_unless_one_is_chosen(
    flags: set[str], kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags : {' '.join(flags)}\n")
    options = native("x86_64", cpuinfo)
    monkeypatch.setattr(requantise_module, "native", lambda: options)
    assert [served_type(chosen) for chosen in ("auto", "Q8_0", "BF16")] == [kind, "Q8_0", "BF16"]


def test_a_cut_file_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    cut, target = tmp_path / "cut.gguf", tmp_path / "eight.gguf"
    cut.write_bytes(packaged_model().read_bytes()[:5_000_000])
    with pytest.raises(BadRequest, match="cut"):
        requantise(cut, target, Q8_0)
    assert not target.exists()
