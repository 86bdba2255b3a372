"""The encoding that an upload declares is kept under Python's name, or refused."""

import pytest

from tunesmith_gateway.files import declared_encoding
from tunesmith_shared.errors import BadRequest


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        (None, None),
        ("text/csv", None),
        ("text/csv; charset=windows-1252", "cp1252"),
        ('text/csv; header=present; charset="UTF-8"', "utf-8"),
        ("text/plain;charset=Shift_JIS", "shift_jis"),
    ],
)
def test_a_declared_encoding_is_kept(content_type: str | None, encoding: str | None) -> None:
    assert declared_encoding(content_type) == encoding


@pytest.mark.parametrize("charset", ["nosuch", "rot13", "hex", "zlib", "idna", "unicode_escape", "undefined"])
def test_what_is_no_encoding_of_text_is_refused(charset: str) -> None:
    with pytest.raises(BadRequest) as refused:
        declared_encoding(f"text/csv; charset={charset}")
    assert refused.value.param == "file"
