"""The model card: `README.md` as model hubs read it, with what the report found."""

import json
from typing import Any

from tunesmith_finetune.report import as_markdown


def as_model_card(report: dict[str, Any]) -> str:
    """Return the card: front matter, then the report."""
    merged = report["hyperparameters"]["merge"]
    values: dict[str, Any] = {
        "base_model": report["base_model"],
        "base_model_relation": "quantized" if merged else "adapter",
        "pipeline_tag": "text-generation",
        "library_name": "gguf" if merged else "peft",
        "tags": ["tunesmith", report["method"], *({"gguf"} if merged else {"lora"})],
    }
    front = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    use = (
        ""
        if not report["registered"]
        else (
            '## Use\n\n```\ncurl $URL/v1/chat/completions -H "Authorization: Bearer $KEY" '
            '-H "Content-Type: application/json" \\\n'
            f'  -d \'{{"model": {json.dumps(report["registered"][0])}, '
            '"messages": [{"role": "user", "content": "Hello!"}]}\'\n```\n'
        )
    )
    return f"---\n{front}\n---\n\n{as_markdown(report)}\n{use}"
