"""The channel between the process that trains and its parent."""

import os
import subprocess
import sys
from pathlib import Path


def test_what_a_library_says_while_it_is_imported_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("print('good day')\nraise ImportError('enough')\n")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "tunesmith_finetune.train_child", str(tmp_path)]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert "good day" in ended.stderr
    assert "enough" in ended.stderr
    assert ended.stdout == ""
