"""`tunesmith chat` and `tunesmith generate`: conversations and single prompts, the answer as it is made."""

import sys
from argparse import Namespace
from contextlib import closing
from typing import Any

from tunesmith_gateway.cli.commands import Commands, Context, Parser, command
from tunesmith_gateway.cli.errors import CommandError

Json = dict[str, Any]

_LEAVE = ("exit", "quit")


def register(commands: "Commands[Parser]") -> None:
    """Add the two commands."""
    talk = command(commands, "chat", chat, "Talk with a model; leave with exit, quit or Ctrl-D.")
    once = command(commands, "generate", generate, "Answer one prompt.")
    once.add_argument("prompt", nargs="?", default="-", help="the prompt; - or nothing reads standard input")
    samples = "answer with the one of N samples that agrees most with the others"
    once.add_argument("--self-consistency", type=int, metavar="N", help=samples)
    for parser in (talk, once):
        parser.add_argument("--model", help="the model (default: the gateway's)")
        parser.add_argument("--session", help="the session to go on with, or to begin under this name")
        document = "answer from this document of the model; may be given several times"
        parser.add_argument("--document", action="append", default=[], help=document)
        add_threshold(parser)
        parser.add_argument("--system", help="a system prompt")
        parser.add_argument("--max-tokens", type=int, metavar="N", help="the longest answer")
        parser.add_argument("--temperature", type=float, help="0 for the likeliest answer")
        parser.add_argument("--seed", type=int, help="the same seed gives the same answer")


def add_threshold(parser: Parser) -> None:
    """Add the option that says from which evidence on the model is asked about documents."""
    about = "have the model answer from documents at this evidence (0 to 1) and above; 0: whatever was found in them"
    parser.add_argument("--threshold", type=float, metavar="EVIDENCE", help=about)


def chat(context: Context, given: Namespace) -> None:
    """Answer line after line in one session."""
    session = given.session
    interactive = context.output.terminal and sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401, PLC0415 - gives input() a history; loaded for people alone
    while (line := _read("> " if interactive else "")) is not None:
        if line.strip().lower() in _LEAVE:
            return
        if not line.strip():
            continue
        try:
            answer = ask(context, {**request(given), "prompt": line, "session_id": session})
        except KeyboardInterrupt:
            if not interactive:
                raise
            context.output.line("")  # stops this answer; the conversation goes on
            continue
        if answer["session_id"] != session:
            session = answer["session_id"]
            context.output.hint(f"(session {session})")


def generate(context: Context, given: Namespace) -> None:
    """Answer one prompt."""
    prompt = sys.stdin.read().strip() if given.prompt == "-" else given.prompt
    if not prompt:
        raise CommandError("The prompt is empty: give it as an argument or on standard input.")
    body = {**request(given), "prompt": prompt, "session_id": given.session}
    if given.self_consistency is not None:
        body["self_consistency"] = {"samples": given.self_consistency}
    ask(context, body)


def request(given: Namespace) -> Json:
    """Return the body of a plain request that the options describe."""
    fields = {
        "model": given.model,
        "documents": given.document,
        "retrieval": retrieval(given),
        "system": given.system,
        "max_new_tokens": given.max_tokens,
        "temperature": given.temperature,
        "seed": given.seed,
    }
    return {name: value for name, value in fields.items() if value is not None}


def retrieval(given: Namespace) -> Json:
    """Return how a request looks into documents, as far as the options say."""
    return {} if given.threshold is None else {"threshold": given.threshold}


def ask(context: Context, body: Json) -> Json:
    """Show an answer as it comes, then where it is from, unless it says that itself, and return it whole."""
    output, last = context.output, Json()
    with closing(context.api.events("POST", "/agenerate", body=body)) as events:
        for event in events:
            if event["done"]:
                last = {name: value for name, value in event.items() if name != "done"}
            elif not output.as_json:
                output.piece(event["response"])
    output.event(last, "")
    if not output.as_json and not last.get("retrieval", {}).get("refused"):
        for citation in last.get("citations", ()):
            output.line(f'[{citation["filename"]}, page {citation["page"]}] "{citation["quote"]}"')
    return last


def _read(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        return None
