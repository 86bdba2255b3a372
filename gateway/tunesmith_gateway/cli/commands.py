"""How a command is declared: its words, its options, and the function that runs it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from tunesmith_gateway.cli.client import Api
from tunesmith_gateway.cli.errors import CommandError
from tunesmith_gateway.cli.output import Output


@dataclass(frozen=True)
class Context:
    """What a command works with."""

    api: Api
    output: Output


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints are errors like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments."""
        raise CommandError(f"{message}. '{self.prog} --help' shows what there is.")


Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for what add_subparsers returns
Run = Callable[[Context, argparse.Namespace], None]


def everywhere() -> Parser:
    """Return the options that every command takes, at any place of the command line."""
    options = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    options.add_argument("--json", action="store_true", help="write JSON, for programs")
    options.add_argument("--host", help="the gateway's host (default: TUNESMITH_URL, or this machine)")
    options.add_argument("--port", type=int, help="the gateway's port (default: 8000)")
    return options


def group(commands: "Commands[Parser]", name: str, about: str) -> "Commands[Parser]":
    """Add a command that has commands of its own."""
    parser = commands.add_parser(name, help=about, description=about, parents=[everywhere()])
    return parser.add_subparsers(metavar="COMMAND", required=True, dest=f"{name}_command")


def command(commands: "Commands[Parser]", name: str, run: Run, about: str) -> Parser:
    """Add a command that `run` carries out, and return its parser for its options."""
    parser = commands.add_parser(name, help=about, description=about, parents=[everywhere()])
    parser.set_defaults(run=run)
    return parser
