"""TRL's trainers on rows that are tokens already, made as serving makes them; TRL would make its own."""

import warnings
from typing import Any

from datasets import Dataset  # type: ignore[import-untyped]
from trl import DPOTrainer, KTOTrainer  # type: ignore[attr-defined]  # trl imports them lazily

with warnings.catch_warnings():  # TRL keeps ORPO among what it may change; our tests would notice, our users need not
    warnings.simplefilter("ignore")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

__all__ = ["ORPOConfig", "OddsTrainer", "PairTrainer", "RatedTrainer"]


class PairTrainer(DPOTrainer):
    """Direct preference optimisation (arXiv 2305.18290)."""

    def _prepare_dataset(self, dataset: Dataset, *_arguments: Any) -> Dataset:
        return dataset


class RatedTrainer(KTOTrainer):
    """Kahneman-Tversky optimisation (arXiv 2402.01306)."""

    def _prepare_dataset(self, dataset: Dataset, _processing_class: Any, args: Any, _name: str) -> Dataset:
        """Add the answer of another row of the batch to each row: from such pairs KTO learns how far the model has
        moved as a whole.
        """

        def with_others(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            answers = batch["completion_ids"]
            return {**batch, "KL_completion_ids": [answers[-1], *answers[:-1]]}

        return dataset.map(with_others, batched=True, batch_size=args.per_device_train_batch_size)


class OddsTrainer(ORPOTrainer):
    """Odds ratio preference optimisation (arXiv 2403.07691), where the loss counts the answers' words only."""

    def tokenize_row(self, feature: dict[str, Any], _model: Any = None) -> dict[str, Any]:
        """Return a row in the names that ORPOTrainer's collator knows."""
        prompt = feature["prompt_ids"]
        row: dict[str, Any] = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            answer = feature[f"{side}_ids"]
            row[f"{side}_input_ids"] = prompt + answer
            row[f"{side}_attention_mask"] = [1] * (len(prompt) + len(answer))
            row[f"{side}_labels"] = [-100] * len(prompt) + answer
        return row

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        """Return what ORPOTrainer computes, with the likelihood of the chosen answer in place of that of the prompt
        and the answer together.
        """
        computed: tuple[Any, ...] = super().concatenated_forward(model, batch)
        chosen = computed[0]
        return (*computed[:4], -chosen.mean(), *computed[5:])
