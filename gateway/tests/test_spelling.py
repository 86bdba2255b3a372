import pytest

from tunesmith_gateway.endpoints.spelling import named, snake
from tunesmith_shared.errors import BadRequest


@pytest.mark.parametrize(
    ("given", "wanted"), [("modelName", "model_name"), ("model_name", "model_name"), ("file", "file")]
)
def test_both_spellings_become_one(given: str, wanted: str) -> None:
    assert snake(given) == wanted


def test_a_missing_field_is_named() -> None:
    with pytest.raises(BadRequest) as raised:
        named({"model_name": " "}, "modelName")
    assert raised.value.param == "modelName"
