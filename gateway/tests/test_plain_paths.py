import pytest

from tunesmith_gateway.plain_paths import is_plain


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/v1/models/hf.co/user/model:Q4_K_M",
        "/v1/files/file-1/content",
        "/api/blobs/sha256:ab",
        "/v1/é/",
    ],
)
def test_names_pass(path: str) -> None:
    assert is_plain(path)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/x/..",
        "/v1/../x",
        "/v1/./x",
        "/v1//etc",
        "//x",
        "/v1/a\0b",
        "/v1/a;b",
        "/v1/-rf",
        "/v1/a\\b",
        "/v1/%2e",
        "/a?b",
    ],
)
def test_what_leads_somewhere_else_does_not(path: str) -> None:
    assert not is_plain(path)
