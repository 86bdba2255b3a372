"""The reports: whatever data and models say stays text, and a page needs nothing from elsewhere."""

from typing import Any

import pytest

from tunesmith_finetune.curves import Curve, as_svg
from tunesmith_finetune.model_card import as_model_card
from tunesmith_finetune.report import as_markdown
from tunesmith_finetune.report_page import as_page

EVIL = "<script>alert('x')</script>\n| a | b"


@pytest.fixture
def report() -> dict[str, Any]:
    checks = [{"code": "worse_than_base", "passed": False, "detail": EVIL}]
    sample = {"prompt": EVIL, "text": EVIL, "base": EVIL, "expected": None, "tokens_per_second": 9.0}
    file = {"gguf_type": "Q4_K_M", "bytes": 1_000_000, "tensor_types": {"Q4_K": 3}}
    return {
        "job": "ftjob-1", "model": EVIL, "registered": [], "base_model": "base", "seed": 1, "method": "supervised",
        "hyperparameters": {"n_epochs": 3, "merge": True},
        "losses": {"improvement": 0.5, "base_eval_loss": 2.0, "eval_loss": 1.0},
        "training": {"steps": 2, "seconds": 1.0, "device": "cpu"},
        "proof": {"checks": checks, "losses": {"base": {"loss": 2.0, "accuracy": 0.5}, "F16": {"error": EVIL}}},
        "files": {"Q4_K_M": file}, "file": file, "sample": sample, "samples": [sample],
    }  # fmt: skip


def test_a_page_shows_what_models_say_as_text(report: dict[str, Any]) -> None:
    page = as_page(report, [{"step": 1, "train_loss": 2.0}, {"step": 2, "train_loss": 1.0, "learning_rate": 1e-3}])
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<polyline") == 2
    assert "FAILED" in page


def test_a_card_names_base_and_kind_before_the_report(report: dict[str, Any]) -> None:
    card = as_model_card(report)
    assert card.startswith('---\nbase_model: "base"\nbase_model_relation: "quantized"\n')
    assert "Not registered" in card
    table = [line for line in as_markdown(report).splitlines() if line.startswith("| F16")]
    assert table == ["| F16 | not measured | <script>alert('x')</script> \\| a \\| b |"]


def test_curves_stay_within_their_frame() -> None:
    svg = as_svg("loss", [Curve("a", [(1, 5.0), (9, 1.0)]), Curve("empty", [])])
    points = [tuple(map(float, point.split(","))) for point in svg.split('points="')[1].split('"')[0].split()]
    assert points == [(48.0, 48.0), (592.0, 163.2)]
    assert as_svg("loss", [Curve("empty", [])]) == ""


@pytest.mark.parametrize(("method", "preferred"), [("dpo", True), ("kto", False)])
def test_preferences_are_told_by_what_was_measured_of_them(
    report: dict[str, Any], method: str, preferred: bool
) -> None:
    accuracies = {"base_eval_reward_accuracy": 0.5, "eval_reward_accuracy": 0.75}
    if preferred:  # rated answers have no other side
        accuracies |= {"base_eval_preferred": 0.25, "eval_preferred": 0.75}
    report["losses"] |= accuracies
    report["proof"]["losses"]["base"] = {"loss": 0.69, "reward_accuracy": 0.5}
    text = as_markdown({**report, "method": method})
    assert "reward accuracy on rows never trained on: 50% before, 75% after" in text
    assert ("25% of the pairs before and 75% after" in text) == preferred
    assert "| base | 0.6900 | 50.0% |" in text
