"""Shortens prompts that do not fit, the way Ollama does: oldest messages first, then the middle of the last one.

It costs nothing where it is not needed: llama.cpp refuses a long prompt before it works on it, and
only then are tokens counted here.
"""

from tunesmith_engine.process import ContextExceeded, ModelProcess

Json = dict[str, object]


async def tokenize(process: ModelProcess, text: str, *, start: bool = True, special: bool = True) -> list[int]:
    """Token ids of a text: with the model's own start and end tokens when ``start``; marks in it count as text when
    not ``special``.
    """
    answer = await process.call("/tokenize", {"content": text, "add_special": start, "parse_special": special})
    tokens = answer["tokens"]
    assert isinstance(tokens, list)  # noqa: S101 - llama.cpp's server says so
    return tokens


async def rendered(process: ModelProcess, body: Json) -> str:
    """The text of a request's prompt: from messages by the model's template, or as it is."""
    if "messages" not in body:
        return str(body["prompt"])
    answer = await process.call("/apply-template", {**template_fields(body), "messages": body["messages"]})
    return str(answer["prompt"])


async def count_tokens(process: ModelProcess, body: Json) -> int:
    """Tokens of a request's prompt."""
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) else len(await tokenize(process, await rendered(process, body)))


def template_fields(body: Json) -> Json:
    """What of a request the model's template reads besides the messages."""
    return {key: body[key] for key in ("tools", "chat_template_kwargs") if key in body}


async def truncate_chat(process: ModelProcess, body: Json, num_ctx: int, num_keep: int) -> Json:
    """A chat request that fits. System messages and the last one stay. Raises ContextExceeded when they do not fit."""
    messages = body["messages"]
    assert isinstance(messages, list)  # noqa: S101 - the caller built it
    droppable = [index for index, message in enumerate(messages[:-1]) if message["role"] != "system"]
    fields = template_fields(body)

    def without_oldest(count: int) -> list[Json]:
        dropped = set(droppable[:count])
        return [message for index, message in enumerate(messages) if index not in dropped]

    async def fits(count: int) -> bool:
        return await count_tokens(process, {**fields, "messages": without_oldest(count)}) < num_ctx

    low, high = 0, len(droppable)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if await fits(middle) else (middle + 1, high)
    kept = without_oldest(low)
    if not await fits(low):
        kept = await _shorten_last(process, fields, kept, num_ctx, num_keep)
    return {**body, "messages": kept}


async def _shorten_last(
    process: ModelProcess, fields: Json, messages: list[Json], num_ctx: int, num_keep: int
) -> list[Json]:
    """Cut the middle out of the last message's text."""
    *others, last = messages
    around = await count_tokens(process, {**fields, "messages": [*others, {**last, "content": ""}]})
    tokens = await tokenize(process, str(last["content"]), start=False, special=False)
    room = min(num_ctx // 2, num_ctx - around - 1)
    if room < 1:
        raise ContextExceeded(around + len(tokens), num_ctx)
    cut = await process.call("/detokenize", {"tokens": cut_tokens(tokens, num_keep, room)})
    return [*others, {**last, "content": cut["content"]}]


async def truncate_prompt(process: ModelProcess, prompt: str | list[int], num_ctx: int, num_keep: int) -> list[int]:
    """The tokens of a bare prompt, cut so that an answer still fits."""
    tokens = await tokenize(process, prompt) if isinstance(prompt, str) else prompt
    return cut_tokens(tokens, num_keep, num_ctx // 2)


def cut_tokens(tokens: list[int], num_keep: int, room: int) -> list[int]:
    """The first ``num_keep`` tokens and as many of the last ones as there is room for."""
    head = tokens[: max(0, min(num_keep, room // 2))]
    return head + tokens[len(tokens) - (room - len(head)) :] if len(tokens) > room else tokens
