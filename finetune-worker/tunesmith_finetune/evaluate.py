"""Run a model over texts without learning: the figures from which every loss and accuracy is computed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from tunesmith_finetune.datasets.encode import NOT_LEARNT
from tunesmith_finetune.measures import Figures

TOKENS_AT_ONCE = 1024
"""Tokens of a batch, padding included, that bound its memory; a longer text is alone in its batch."""

_MOST_PADDED = 1.15
"""How many times as long as the shortest text of a batch the longest may be."""

Text = dict[str, list[int]]


def run_over(
    model: PreTrainedModel,
    pad_token_id: int,
    number_format: Callable[[], AbstractContextManager[Any]],
    texts: Sequence[Text],
) -> list[Figures]:
    """Return the figures of each of `texts` (`input_ids`, `labels`); `number_format` is where products are made."""
    was_training = model.training
    model.train(False)
    found: dict[int, Figures] = {}
    for places in _batches(texts):
        batch = _padded([texts[place] for place in places], pad_token_id)
        labels = batch.pop("labels")[:, 1:].to(model.device)
        with torch.no_grad():
            with number_format():
                inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
                logits = model(**inputs, use_cache=False).logits[:, :-1]
            learnt = labels != NOT_LEARNT
            numbers, wanted = logits[learnt].float(), labels[learnt]
            logs = -torch.nn.functional.cross_entropy(numbers, wanted, reduction="none")
            right = numbers.argmax(-1) == wanted
        start = 0
        for place, count in zip(places, learnt.sum(1).tolist(), strict=True):
            of_text = slice(start, start := start + count)
            found[place] = Figures(logs[of_text].double().sum().item(), int(right[of_text].sum().item()), count)
    model.train(was_training)
    return [found[place] for place in range(len(texts))]


def _padded(texts: Sequence[Text], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `attention_mask` and `labels` of texts side by side, as long as the longest."""
    columns = [[torch.tensor(text[name]) for text in texts] for name in ("input_ids", "labels")]
    columns.append([torch.ones_like(tokens) for tokens in columns[0]])
    padding = {"input_ids": pad_token_id, "labels": NOT_LEARNT, "attention_mask": 0}
    return {
        name: pad_sequence(column, batch_first=True, padding_value=padding[name])
        for name, column in zip(padding, columns, strict=True)
    }


def _batches(texts: Sequence[Text]) -> Iterator[list[int]]:
    """Yield the places of the texts of each batch: of similar length, since padding takes as long as text."""
    batch: list[int] = []
    lengths = [len(text["input_ids"]) for text in texts]
    for place in sorted(range(len(texts)), key=lengths.__getitem__):
        longest = lengths[place]
        if batch and ((len(batch) + 1) * longest > TOKENS_AT_ONCE or longest > _MOST_PADDED * lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
