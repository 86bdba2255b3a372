"""Run a model over texts without learning: the figures from which every loss and accuracy is computed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import PreTrainedModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunesmith_finetune.datasets.encode import NOT_LEARNT
from tunesmith_finetune.measures import Figures

TOKENS_AT_ONCE = 1024
"""Tokens of a batch, padding included, that bound its memory; a longer text is alone in its batch."""

Text = dict[str, list[int]]


def run_over(
    model: PreTrainedModel,
    pad_token_id: int,
    number_format: Callable[[], AbstractContextManager[Any]],
    texts: Sequence[Text],
) -> list[Figures]:
    """Return the figures of each of `texts` (`input_ids`, `labels`); `number_format` is where products are made."""
    collate = DataCollatorForLanguageModeling(pad_token_id=pad_token_id)
    was_training = model.training
    model.train(False)
    found: dict[int, Figures] = {}
    for places in _batches(texts):
        batch = {name: tensor.to(model.device) for name, tensor in collate([texts[place] for place in places]).items()}
        labels = batch.pop("labels")[:, 1:]
        with torch.no_grad():
            with number_format():
                logits = model(**batch, use_cache=False).logits[:, :-1]
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


def _batches(texts: Sequence[Text]) -> Iterator[list[int]]:
    """Yield the places of the texts of each batch; texts of similar length go together to save padding."""
    batch: list[int] = []
    for place in sorted(range(len(texts)), key=lambda place: len(texts[place]["input_ids"])):
        if batch and (len(batch) + 1) * len(texts[place]["input_ids"]) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
