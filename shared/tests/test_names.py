"""Model names: defaults, shortest spelling, and what is refused."""

import pytest

from tunesmith_shared.errors import BadRequest
from tunesmith_shared.names import ModelName


@pytest.mark.parametrize(
    ("text", "path", "display"),
    [
        ("m", "registry.ollama.ai/library/m/latest", "m:latest"),
        ("smollm2:135m", "registry.ollama.ai/library/smollm2/135m", "smollm2:135m"),
        ("a/b:tag", "registry.ollama.ai/a/b/tag", "a/b:tag"),
        ("Hub.example:5000/a/b", "Hub.example:5000/a/b/latest", "Hub.example:5000/a/b:latest"),
        ("https://h.example/a/b:c", "h.example/a/b/c", "h.example/a/b:c"),
        ("_x/Llama-3.2:1B-q4_K_M", "registry.ollama.ai/_x/Llama-3.2/1B-q4_K_M", "_x/Llama-3.2:1B-q4_K_M"),
    ],
)
def test_a_name_gets_its_defaults(text: str, path: str, display: str) -> None:
    name = ModelName.parse(text)
    assert str(name.path) == path
    assert name.display == display
    assert ModelName.parse(name.display) == name


NO_NAMES = [
    "",
    ":",
    "m:",
    ":t",
    "/m",
    "a//b",
    "a/b/c/d",
    "../m",
    "..",
    "m:..",
    "-m",
    "m:-t",
    "a b",
    "m;x",
    "m\0",
    "m\n",
]
NO_NAMES += ["a.b/m", "/etc/passwd", "m" * 81, "m:" + "t" * 81, "ü", "C:\\m", "https://h/a/b/c", "m:a/b:c:d"]


@pytest.mark.parametrize("text", NO_NAMES)
def test_what_cannot_be_a_name_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="invalid model name"):
        ModelName.parse(text)


def test_spellings_of_one_name_have_one_key() -> None:
    assert ModelName.parse("Me/Tiny:V1").key == ModelName.parse("me/tiny:v1").key
