"""Training goes on from whole checkpoints only."""

from pathlib import Path

from tunesmith_finetune.checkpoints import last_whole_checkpoint, mark_whole


def test_the_newest_whole_checkpoint_counts_and_half_written_ones_go(tmp_path: Path) -> None:
    for step in (2, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    mark_whole(tmp_path / "checkpoint-2")
    mark_whole(tmp_path / "checkpoint-10")
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-12").exists()


def test_none_is_whole(tmp_path: Path) -> None:
    assert last_whole_checkpoint(tmp_path) is None
