"""The command line from its arguments to its exit status: 0 when it did what was asked, 1 and a sentence otherwise."""

import os
import sys
from collections.abc import Sequence

from tunesmith_gateway.cli import chat, documents, files, jobs, keys, models, sessions
from tunesmith_gateway.cli.client import Api
from tunesmith_gateway.cli.commands import Context, Parser, everywhere
from tunesmith_gateway.cli.errors import CommandError
from tunesmith_gateway.cli.output import Output, clean
from tunesmith_gateway.cli.settings import load

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        return _run(arguments)
    except CommandError as error:
        sys.stderr.write(f"tunesmith: {clean(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has had enough (head, say)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    given = _parser().parse_args(arguments)
    settings = load(getattr(given, "host", None), getattr(given, "port", None))
    api = Api(settings.address(), settings.key())
    given.run(Context(api, Output(as_json=getattr(given, "json", False))), given)
    return 0


def _parser() -> Parser:
    about = "Ask models, make them, train them and give them documents."
    parser = Parser(prog="tunesmith", description=about, parents=[everywhere()])
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for module in (chat, sessions, models, documents, files, jobs, keys):
        module.register(commands)
    return parser
