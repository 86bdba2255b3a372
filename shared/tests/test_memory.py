"""The memory that there is: the machine's or the container's, whichever is less."""

from pathlib import Path

import psutil
import pytest

from tunesmith_shared.memory import usable_memory


def test_a_machine_without_a_limit_gives_all_it_has(tmp_path: Path) -> None:
    assert usable_memory((tmp_path / "missing",)) == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("text", "limited"), [("268435456\n", True), ("max\n", False), ("9223372036854771712\n", False)]
)
def test_a_container_gives_its_limit(tmp_path: Path, text: str, limited: bool) -> None:
    file = tmp_path / "memory.max"
    file.write_text(text)
    assert usable_memory((tmp_path / "missing", file)) == (268435456 if limited else psutil.virtual_memory().total)
