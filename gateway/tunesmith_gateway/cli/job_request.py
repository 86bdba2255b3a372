"""What `tunesmith jobs create` and `tunesmith jobs preview` are given, as the request that both send."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from tunesmith_gateway.cli.commands import Context
from tunesmith_gateway.cli.errors import CommandError
from tunesmith_gateway.cli.files import send

Json = dict[str, Any]

METHODS = ("supervised", "dpo", "orpo", "kto")
_DATASET_OPTIONS = ("format", "max_rows", "weight")


def add_arguments(parser: ArgumentParser) -> None:
    """Let `parser` take what a job is made from."""
    parser.add_argument("training_file", help="a dataset on this machine, or the id of an upload")
    parser.add_argument("--validation-file", help="the same for validation")
    parser.add_argument("--model", required=True, help="the model to train")
    parser.add_argument("--name", help="the name that the result answers under")
    parser.add_argument("--method", choices=METHODS, default="supervised")
    parser.add_argument("--seed", type=int)
    setting = "a hyperparameter, such as n_epochs=2 or learning_rate=1e-4; may be given several times"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help=setting)
    dataset = "one more dataset to train on, or how a named one is used: rows.csv,format=gsm8k,max_rows=500,weight=2"
    parser.add_argument(
        "--dataset", action="append", default=[], metavar="FILE[,NAME=VALUE]", help=dataset, dest="uses"
    )
    parser.add_argument("--encoding", help="what the text files are in, such as windows-1252, when it is not UTF-8")


class JobRequest:
    """Makes the request, and knows which files were uploaded for it."""

    def __init__(self, context: Context, given: Namespace) -> None:
        self._context = context
        self._given = given
        self._ids: dict[str, str] = {}
        self.uploaded: list[str] = []

    def body(self) -> Json:
        """Return the request's body; local files are uploaded. Raises `CommandError`."""
        given = self._given
        settings = dict(map(_setting, given.settings))
        uses = [_use(text) for text in given.uses]
        body: Json = {
            "model": given.model,
            "model_name": given.name,
            "seed": given.seed,
            "method": {"type": given.method, given.method: {"hyperparameters": settings}},
            "training_file": self._file(given.training_file),
            "validation_file": self._file(given.validation_file) if given.validation_file else None,
            "datasets": [{"file": self._file(name), **options} for name, options in uses] or None,
        }
        return {name: value for name, value in body.items() if value is not None}

    def remove_uploads(self) -> None:
        """Remove the files that were uploaded for this request."""
        for file_id in self.uploaded:
            self._context.api.call("DELETE", f"/v1/files/{file_id}")

    def _file(self, name: str) -> str:
        """Return the id of an upload; a local file is uploaded, once."""
        if name.startswith("file-") and not Path(name).exists():
            return name
        if name not in self._ids:
            self._ids[name] = str(send(self._context, Path(name), "fine-tune", self._given.encoding)["id"])
            self.uploaded.append(self._ids[name])
        return self._ids[name]


def _use(text: str) -> tuple[str, Json]:
    name, *options = text.split(",")
    found = dict(map(_setting, options))
    if not name or not set(found) <= set(_DATASET_OPTIONS):
        raise CommandError(f"--dataset takes FILE and any of {', '.join(_DATASET_OPTIONS)}=VALUE, not '{text}'.")
    return name, found


def _setting(text: str) -> tuple[str, bool | int | float | str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise CommandError(f"--set takes NAME=VALUE, such as n_epochs=2, not '{text}'.")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
