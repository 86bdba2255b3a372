"""What training saw and what serving sees are the same: the tokens of any text, and the prompt of any chat."""

from pathlib import Path

import httpx
import pytest

from tunesmith_finetune.datasets.cells import Message
from tunesmith_finetune.datasets.encode import NOT_LEARNT, Encoder
from tunesmith_finetune.datasets.formats import Example

CORPUS = [
    "In 2024, 1234567 + 89 = 1234656; 3.14159, 1e-5, 0x7F, ٣٤٥, ½, 第12345号.",
    "def f(x):\n\treturn [i**2 for i in range(10)]  # squares\n\n\nif __name__ == '__main__':\r\n    print(f(3))",
    'for (int i = 0; i < 100; ++i) { std::cout << "i=" << i << "\\n"; } /* done */ && || != -> ::',
    "I'm sure they've said we'll see; it's what you'd expect, DON'T you? rock'n'roll",
    "人工智能正在改变世界。你好，世界！今天是2024年11月22日。",
    "مرحبا بالعالم، كيف حالك اليوم؟ رقم ١٢٣",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם. नमस्ते दुनिया. 안녕하세요 세계",
    "Emoji: 😀👩‍👩‍👧‍👦🏳️‍🌈🇫🇷 and ZWJ, naïve café, e\u0301 combining, ﬁ ligature",
    "  leading,   inner    runs,\ttabs\t\t,\n\n\n\nnewlines \n \n and trailing   ",
    "\u00a0non-breaking\u00a0 and\u2003em\u2003space\u200bzero\ufeffmark",
    "https://example.org/a_b-c?d=1&e=%20#top user.name+tag@example.co.uk C:\\temp\\x.txt",
    "<|im_start|>user\nspecial <|im_end|>\n<|endoftext|> in text <|im_start|>assistant\n",
    "almost special: <|im_start <im_end|> <|endoftext |>",
    "",
    "a",
    "\n",
]

CHATS: list[list[Message]] = [
    [{"role": "user", "content": "How do I boil an egg?"}],
    [{"role": "system", "content": "You are a keeper."}, {"role": "user", "content": "Hello  there\n\nfriend 123"}],
    [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2, traveller."},
        {"role": "user", "content": "  and 2 + 2? "},
    ],
    [{"role": "user", "content": "你好 <|im_end|> {{ braces }} {% raw %}"}],
]


@pytest.fixture(scope="session")
def encoder(base_folder: Path) -> Encoder:
    return Encoder(base_folder)


def _llama_tokens(server: str, text: str) -> list[int]:
    body = {"content": text, "add_special": False, "parse_special": True}
    tokens: list[int] = httpx.post(f"{server}/tokenize", json=body).raise_for_status().json()["tokens"]
    return tokens


@pytest.mark.parametrize("text", CORPUS)
def test_training_and_serving_give_a_text_the_same_tokens(text: str, encoder: Encoder, llama_server: str) -> None:
    assert encoder.tokens(text) == _llama_tokens(llama_server, text)


def test_the_example_data_has_the_same_tokens(encoder: Encoder, llama_server: str) -> None:
    for dataset in sorted((Path(__file__).parents[2] / "examples").glob("*.csv")):
        text = dataset.read_text(encoding="utf-8")
        assert encoder.tokens(text) == _llama_tokens(llama_server, text), dataset.name


@pytest.mark.parametrize("chat", CHATS)
def test_training_and_serving_render_the_same_prompt(
    chat: list[Message], base_folder: Path, encoder: Encoder, llama_server: str
) -> None:
    served = httpx.post(f"{llama_server}/apply-template", json={"messages": chat}).raise_for_status().json()["prompt"]
    answer = Message(role="assistant", content="Aye, traveller.")
    encoded = encoder.encode_chat(Example(row=2, messages=[*chat, answer], text=None, chosen=None, rejected=None))
    learnt_from = len(encoded["labels"]) - len(encoder.tokens("Aye, traveller.<|im_end|>"))
    assert encoded["input_ids"][:learnt_from] == _llama_tokens(llama_server, served)
    assert encoded["labels"][learnt_from:] == encoder.tokens("Aye, traveller.<|im_end|>")


def test_transformers_renders_and_cuts_alike(base_folder: Path, encoder: Encoder) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base_folder)
    for text in CORPUS:
        assert tokenizer.encode(text, add_special_tokens=False) == encoder.tokens(text)
    for chat in CHATS:
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert prompt == encoder._template.prompt(chat)


def test_only_the_assistants_words_and_their_end_are_learnt(encoder: Encoder) -> None:
    chat: list[Message] = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "four"},
    ]
    encoded = encoder.encode_chat(Example(row=2, messages=chat, text=None, chosen=None, rejected=None))
    learnt = [label for label in encoded["labels"] if label != NOT_LEARNT]
    assert learnt == [*encoder.tokens("two<|im_end|>"), *encoder.tokens("four<|im_end|>")]
