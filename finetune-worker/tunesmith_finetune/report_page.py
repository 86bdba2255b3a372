"""The report as one HTML page that needs nothing else: curves as inline SVG, all that data or models say escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tunesmith_finetune.curves import Curve, as_svg
from tunesmith_finetune.report import facts, losses_rows, origin, verdict

STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #ccc;padding:.4rem;text-align:left;"
    "vertical-align:top;white-space:pre-wrap}.failed{color:#b00020;font-weight:bold}svg{width:100%;height:auto}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def as_page(report: dict[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:
    """Return the page; `steps` are the metrics of the training, oldest first."""
    title = escape(str(report["model"]))
    body = [
        f"<h1>{title}</h1><p>{escape(origin(report))}</p>",
        _list(escape(fact) for fact in facts(report)),
        "<h2>Checks</h2>",
        _list(_check(check) for check in report["proof"]["checks"]),
        "<h2>Losses on the same rows</h2>",
        _table(("model", "loss", "accuracy"), losses_rows(report)),
        "<h2>Training</h2>",
        as_svg("loss by step", [_curve("training loss", steps, "train_loss"), _curve("loss", steps, "valid_loss")]),
        as_svg("learning rate by step", [_curve("learning rate", steps, "learning_rate")]),
        as_svg("accuracy by step", [_curve("token accuracy", steps, "train_mean_token_accuracy")]),
        "<h2>Answers side by side</h2>",
        _table(("prompt", "tuned", "base", "dataset"), [_sample(sample) for sample in report["samples"]]),
        "<h2>Hyperparameters</h2>",
        _table(("name", "value"), [(k, str(v)) for k, v in report["hyperparameters"].items() if v is not None]),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def _curve(name: str, steps: Sequence[Mapping[str, Any]], field: str) -> Curve:
    return Curve(name, [(float(step["step"]), float(step[field])) for step in steps if step.get(field) is not None])


def _list(items: Any) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _check(check: dict[str, Any]) -> str:
    kind = ' class="failed"' if check["passed"] is False else ""
    return f"<span{kind}>{verdict(check)}</span>: {escape(str(check['detail']))}"


def _sample(sample: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(sample[name] or "") for name in ("prompt", "text", "base", "expected"))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"
