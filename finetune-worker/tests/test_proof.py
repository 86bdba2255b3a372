"""What a finished model must show: prompts read alike, a merge that is only rounding, and no loss above the base's."""

from pathlib import Path
from typing import Any

import pytest

from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.parity import compare
from tunesmith_finetune.proof import Check, NotProven, judge, require_proof, rounding

SAME = {"compared": 2, "different": [], "reason": ""}


def losses(**values: float) -> dict[str, Any]:
    return {name: {"loss": value, "accuracy": 0.5} for name, value in values.items()}


def verdicts(found: dict[str, Any], parity: dict[str, Any]) -> dict[str, bool | None]:
    return {check.code: check.passed for check in judge(found, ["Q4_K_M"], parity, "float32")}


def test_a_model_that_learnt_and_kept_it_passes() -> None:
    found = losses(base=3.0, adapter=2.0, merged=2.005, Q4_K_M=2.1)
    assert verdicts(found, SAME) == {"prompt_differs": True, "merge_differs": True, "worse_than_base": True}


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"merged": 2.2}, "merge_differs"), ({"merged": 1.8}, "merge_differs"), ({"Q4_K_M": 3.1}, "worse_than_base")],
)
def test_what_was_lost_on_the_way_is_named_and_promoted_only_on_request(changed: dict[str, float], code: str) -> None:
    found = losses(**{"base": 3.0, "adapter": 2.0, "merged": 2.0, "Q4_K_M": 2.1, **changed})
    checks = judge(found, ["Q4_K_M"], SAME, "float32")
    with pytest.raises(NotProven, match="was not registered") as refused:
        require_proof(checks, "proven")
    assert refused.value.code == code
    require_proof(checks, "always")


def test_a_merge_may_differ_by_what_its_numbers_round_and_no_more() -> None:
    assert rounding(3.0, "float32") == rounding(3.0, "float16")  # the file's numbers are float16 whatever measured it
    assert rounding(3.0, "bfloat16") == 8 * rounding(3.0, "float16")  # three bits fewer
    assert rounding(0.01, "float32") == pytest.approx(rounding(1.0, "float32") / 100)  # a sure model is hardly moved
    allowed = rounding(2.0, "bfloat16")
    for moved, passed in ((0.9 * allowed, True), (-0.9 * allowed, True), (1.1 * allowed, False)):
        found = losses(base=3.0, adapter=2.0, merged=2.0 + moved, Q4_K_M=2.1)
        merge = {check.code: check.passed for check in judge(found, ["Q4_K_M"], SAME, "bfloat16")}["merge_differs"]
        assert merge is passed


def test_what_could_not_be_measured_is_said_and_does_not_count() -> None:
    found = {
        **losses(base=3.0, adapter=2.0),
        "merged": {"error": "KeyError: new"},
        "Q4_K_M": {"error": "KeyError: new"},
    }
    checks = judge(found, ["Q4_K_M"], {"compared": 0, "different": [], "reason": "texts without turns"}, "float32")
    assert {check.passed for check in checks} == {None}
    assert "KeyError: new" in checks[1].detail
    require_proof(checks, "proven")


def test_a_prompt_that_is_read_otherwise_is_named_with_its_token() -> None:
    parity = {"compared": 2, "different": [{"at": 7}], "reason": ""}
    check = judge({}, [], parity, "float32")[0]
    assert check == Check("prompt_differs", False, check.detail)
    assert "1 of 2 prompts" in check.detail
    assert "token 7" in check.detail


async def test_a_template_that_differs_in_serving_is_found(base_folder: Path) -> None:
    encoder = Encoder(base_folder)
    messages: Any = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Aye"}]
    example: Any = {"row": 2, "messages": messages, "text": None, "chosen": None, "rejected": None}
    trained = "".join(text for text, learnt in encoder.pieces(example) if not learnt)

    async def tokenise(text: str) -> list[int]:
        return encoder.tokens(text)

    async def as_trained(_messages: Any) -> str:
        return trained

    async def shortened(_messages: Any) -> str:
        return trained.removesuffix("\n")

    async def silent(_messages: Any) -> None:
        return None

    assert (await compare(encoder, [example], as_trained, tokenise))["different"] == []
    (different,) = (await compare(encoder, [example], shortened, tokenise))["different"]
    assert different["at"] == different["served_tokens"] == different["trained_tokens"] - 1
    assert (await compare(encoder, [example], silent, tokenise))["compared"] == 0
