"""Which instructions llama.cpp is built for, and the folders of its builds."""

from pathlib import Path

import pytest

from tunesmith_shared.llama_cpp import PORTABLE, SERVER, build_folder, built, native

AVX512 = "avx512f avx512cd avx512vl avx512dq avx512bw"


def cpuinfo(path: Path, flags: str) -> Path:
    path.write_text(f"processor\t: 0\nflags\t\t: fpu avx2 {flags}\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    return path


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("", set()),
        ("avx_vnni", {"AVX_VNNI"}),
        (AVX512, {"AVX512"}),
        ("avx512f avx512_bf16", set()),  # not all that llama.cpp means by AVX-512
        (f"{AVX512} avx512_bf16 avx512vbmi avx512_vnni", {"AVX512", "AVX512_BF16", "AVX512_VBMI", "AVX512_VNNI"}),
        (f"{AVX512} amx_tile amx_int8 amx_bf16", {"AVX512"}),
    ],
)
def test_a_build_uses_what_the_processor_has_but_no_amx(tmp_path: Path, flags: str, options: set[str]) -> None:
    chosen = native("x86_64", cpuinfo(tmp_path / "cpuinfo", flags))
    assert chosen == {"GGML_NATIVE": "OFF", **{f"GGML_{option}": "ON" for option in options}}


def test_what_is_not_known_is_left_to_llama_cpp_or_not_used(tmp_path: Path) -> None:
    assert native("aarch64") == {"GGML_NATIVE": "ON"}
    assert native("x86_64", tmp_path / "nothing") == PORTABLE


def test_builds_for_other_processors_are_others(tmp_path: Path) -> None:
    avx2, avx512 = {"GGML_NATIVE": "OFF"}, {"GGML_NATIVE": "OFF", "GGML_AVX512": "ON"}
    assert build_folder(tmp_path, "1", avx2) != build_folder(tmp_path, "1", avx512)
    assert build_folder(tmp_path, "1", avx512).name.endswith("-avx512")


def test_no_server_is_found_where_none_is_built_for_this_processor(tmp_path: Path) -> None:
    assert built(tmp_path, SERVER) is None
    other = build_folder(tmp_path, "1", {**native(), "GGML_OTHER": "ON"}) / "bin" / SERVER
    other.parent.mkdir(parents=True)
    other.touch()
    assert built(tmp_path, SERVER) is None
