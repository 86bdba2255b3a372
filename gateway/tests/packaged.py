"""The small model with a chat template that has a place for tools."""

from pathlib import Path

from tunesmith_shared.testing import packaged_model

_TEMPLATE = """{%if tools%}<|im_start|>system
Tools: {{tools|tojson}}<|im_end|>
{%endif%}{%for m in messages%}<|im_start|>{{m.role}}
{{m.content or ''}}{%for c in m.tool_calls or []%}
<tool_call>
{"name": "{{c.function.name}}", "arguments": {{c.function.arguments|tojson}}}
</tool_call>{%endfor%}<|im_end|>
{%endfor%}{%if add_generation_prompt%}<|im_start|>assistant
{%endif%}"""
_KEY = b"tokenizer.chat_template"


def write_model_with_tools(path: Path) -> None:
    """Write the model with another template, filled up to its own length, so that nothing in the file moves."""
    content = packaged_model().read_bytes()
    at = content.index(_KEY) + len(_KEY) + 4
    length = int.from_bytes(content[at : at + 8], "little")
    template = _TEMPLATE.encode() + b"{#" + b" " * (length - len(_TEMPLATE) - 4) + b"#}"
    assert len(template) == length
    path.write_bytes(content[: at + 8] + template + content[at + 8 + length :])
