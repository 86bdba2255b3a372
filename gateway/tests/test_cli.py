"""The command `tunesmith` as a process: against the real platform, and against a scripted one where jobs take long."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tunesmith_shared.testing import Platform, free_port

MODEL = "smollm2:135m"
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SHORT = ("--max-tokens", "6", "--seed", "1", "--temperature", "0")
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(url: str, key: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    return {**kept, "TUNESMITH_URL": url, "TUNESMITH_API_KEY": key, "COLUMNS": "200"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tunesmith_gateway.cli", *words]


@pytest.fixture
def cli(platform: Platform, tmp_path: Path) -> Cli:
    def run(*words: str, said: str = "", fails: bool = False, **more: str) -> "subprocess.CompletedProcess[str]":
        variables = {**environment(platform.url, platform.key), **more}
        done = subprocess.run(
            command(*words),
            check=False,
            input=said,
            capture_output=True,
            text=True,
            timeout=120,
            env=variables,
            cwd=tmp_path,
        )
        assert done.returncode == (1 if fails else 0), done.stderr
        assert not fails or (done.stderr.startswith("tunesmith: ") and done.stderr.count("\n") == 1), done.stderr
        return done

    return run


@pytest.fixture
def with_worker(platform: Platform) -> Iterator[None]:
    platform.start("worker")
    yield
    platform.services["worker"].stop()


def test_generate_answers_an_argument_and_standard_input_the_same(cli: Cli) -> None:
    answer = cli("generate", "Say hello.", *SHORT).stdout
    assert answer.strip()
    assert cli("generate", *SHORT, said="Say hello.\n").stdout == answer
    shown = json.loads(cli("generate", "Say hello.", *SHORT, "--json", "--self-consistency", "3").stdout)
    assert shown["response"] == answer.strip("\n")
    assert len(shown["candidates"]) == 3


@pytest.mark.parametrize("leave", ["exit\nnever\n", "QUIT\n", ""])
def test_chat_keeps_a_session_until_it_is_left(cli: Cli, leave: str, client: httpx.Client) -> None:
    session = f"cli-{len(leave)}"
    said = f"My name is Ada.\n\nWhat is my name?\n{leave}"
    lines = cli("--json", "chat", "--session", session, *SHORT, said=said).stdout.splitlines()
    assert [json.loads(line)["session_id"] for line in lines] == [session, session]
    messages = client.get(f"/sessions/{session}").json()["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == ["My name is Ada.", "What is my name?"]


def test_a_terminal_gets_a_prompt_a_table_and_no_control_characters_of_others(platform: Platform) -> None:
    shown = in_terminal(platform, command("chat", "--model", MODEL, *SHORT), b"Say hello.\nexit\n")
    assert shown.count("> ") == 2
    assert "(session session-" in shown
    listed = in_terminal(platform, command("models", "list"), b"")
    assert "QUANTIZATION" in listed
    assert MODEL in listed


def in_terminal(platform: Platform, words: list[str], typed: bytes) -> str:
    """Run a command in a pseudo-terminal and return what it showed."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        words, stdin=its, stdout=its, stderr=its, env={**environment(platform.url, platform.key), "TERM": "dumb"}
    )
    os.close(its)
    os.write(ours, typed)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # what a terminal gives when the last process has left it
        pass
    os.close(ours)
    assert process.wait(30) == 0, shown
    return shown.decode()


def test_sessions_are_listed_shown_exported_and_cleared(cli: Cli, tmp_path: Path) -> None:
    cli("generate", "Say hello.", "--session", "cli-kept", *SHORT)
    assert "cli-kept" in {line.split("\t")[0] for line in cli("sessions", "list").stdout.splitlines()}
    assert cli("sessions", "show", "cli-kept").stdout.startswith("user\tSay hello.\n")
    cli("sessions", "export", "cli-kept", "--format", "jsonl", "--to", "kept.jsonl")
    row = json.loads((tmp_path / "kept.jsonl").read_text())
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert cli("sessions", "export", "cli-kept").stdout.startswith("# cli-kept\n")
    assert cli("sessions", "clear", "cli-kept").stdout == "Cleared cli-kept: 2 messages.\n"
    assert "cli-kept" in cli("sessions", "show", "cli-kept", fails=True).stderr


def test_a_large_upload_that_is_refused_says_why(cli: Cli, tmp_path: Path) -> None:
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(8 * 2**20)
    refused = cli("files", "upload", "large.bin", TUNESMITH_API_KEY="ts-wrong", fails=True).stderr
    assert "unknown, expired or revoked" in refused


def test_models_are_listed_made_and_removed(cli: Cli) -> None:
    assert cli("models", "create", "cli-pirate", "--system", "Talk like a pirate.").stdout.startswith("Made cli-pirate")
    rows = [line.split("\t") for line in cli("models", "list").stdout.splitlines()]
    assert ["cli-pirate:latest", MODEL] in [[row[0], row[4]] for row in rows]
    assert "cli-pirate:latest" in {model["name"] for model in json.loads(cli("models", "list", "--json").stdout)}
    assert cli("models", "delete", "cli-pirate").stdout == "Removed cli-pirate:latest.\n"
    assert MODEL in cli("models", "create", "x", "--system", "y", "--base", "nosuch", fails=True).stderr


def test_files_are_stored_listed_given_back_and_removed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"prompt,response\r\na,\xc3\xa9\r\n")
    file_id = cli("files", "upload", "rows.csv", "--purpose", "fine-tune").stdout.strip()
    listed = [line.split("\t")[:3] for line in cli("files", "list", "--purpose", "fine-tune").stdout.splitlines()]
    assert [file_id, "rows.csv", "fine-tune"] in listed
    cli("files", "download", file_id, "--to", "copy.csv")
    assert (tmp_path / "copy.csv").read_bytes() == (tmp_path / "rows.csv").read_bytes()
    assert "copy.csv" in cli("files", "download", file_id, "--to", "copy.csv", fails=True).stderr
    assert json.loads(cli("files", "delete", file_id, "--json").stdout)["deleted"] is True
    cli("files", "download", file_id, "--to", "again.csv", fails=True)
    assert not (tmp_path / "again.csv").exists()
    assert "cannot be read" in cli("files", "upload", "nosuch.csv", fails=True).stderr


def test_documents_are_imported_asked_and_removed(cli: Cli) -> None:
    cli("models", "create", "cli-reader", "--system", "Answer briefly.")
    imported = cli("documents", "import", str(EXAMPLES / "handbook.pdf"), "--model", "cli-reader").stdout
    assert imported == "Imported handbook.pdf for cli-reader:latest.\n"
    assert cli("documents", "list", "--model", "cli-reader").stdout.split("\t")[2] == "completed"
    question = ("documents", "ask", "How much diesel does the fuel tank hold?", "--model", "cli-reader", "--json")
    assert json.loads(cli(*question).stdout)["citations"]
    unsure = "What salary does the chief observer earn?"
    told = cli("documents", "ask", unsure, "--model", "cli-reader").stdout
    assert told.count("handbook.pdf, page ") == len(told.splitlines()[3:-2]) > 0, told
    assert told.splitlines()[-1].endswith("on the command line with --threshold 0."), told
    insisted = ("--model", "cli-reader", "--threshold", "0", "--max-tokens", "6", "--json")
    answers = [json.loads(cli("generate", unsure, "--document", "handbook.pdf", *insisted).stdout)]
    answers.append(json.loads(cli("documents", "ask", unsure, *insisted[:4], "--json").stdout))
    assert [answer["retrieval"]["refused"] for answer in answers] == [False, False]
    cli("documents", "delete", "handbook.pdf", "--model", "cli-reader")
    assert "has no documents" in cli(*question, fails=True).stderr
    cli("models", "delete", "cli-reader")


@pytest.mark.usefixtures("with_worker")
def test_a_job_is_previewed_without_leaving_anything(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("prompt,response\nWer?,Müller\n".encode("cp1252"))
    (tmp_path / "more.csv").write_text("question,answer\nWas?,Nebel\nWo?,Hier\n")
    asked = ("jobs", "preview", "rows.csv", "--model", MODEL, "--dataset", "more.csv,max_rows=1,weight=3")
    shown = cli(*asked, "--encoding", "cp1252").stdout
    assert "[masked, " in shown
    assert "assistant\n\n[learnt, " in shown
    assert "Müller<|im_end|>" in shown
    assert "more.csv\t1 of 2 rows, format question-answer, weight 3" in shown
    assert "about " in shown
    assert "line 2 is not UTF-8" in cli(*asked, fails=True).stderr
    assert "--dataset takes FILE" in cli(*asked, "--dataset", "x.csv,rows=2", fails=True).stderr
    assert json.loads(cli("files", "list", "--purpose", "fine-tune", "--json").stdout) == []


@pytest.mark.usefixtures("with_worker")
def test_a_job_that_cannot_be_is_followed_to_its_reason(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("colour,shape\nred,round\n")
    create = ("jobs", "create", "bad.csv", "--model", MODEL, "--name", "cli-tuned", "--set", "n_epochs=1")
    failed = cli(*create, "--follow", fails=True)
    assert "bad.csv" in failed.stderr
    assert "colour" in failed.stderr
    jobs = json.loads(cli("jobs", "list", "--json").stdout)
    if jobs:  # refused before there is a job, or failed as one
        assert json.loads(cli("jobs", "show", jobs[0]["id"], "--json").stdout)["status"] == "failed"
    assert "NAME=VALUE" in cli("jobs", "create", "bad.csv", "--model", MODEL, "--set", "n_epochs", fails=True).stderr


def test_keys_are_made_listed_and_revoked(cli: Cli) -> None:
    made = json.loads(
        cli("keys", "create", "laptop", "--owner", "ada", "--scope", "chat", "--days", "1", "--json").stdout
    )
    assert cli("generate", "Hi", *SHORT, TUNESMITH_API_KEY=made["secret"]).stdout.strip()
    assert made["id"] in {line.split("\t")[0] for line in cli("keys", "list").stdout.splitlines()}
    assert made["secret"] not in cli("keys", "list", "--json").stdout
    assert cli("keys", "revoke", made["id"]).stdout == f"Revoked {made['id']}.\n"
    assert "revoked" in cli("models", "list", fails=True, TUNESMITH_API_KEY=made["secret"]).stderr


def test_mistakes_are_one_sentence(cli: Cli) -> None:
    port = free_port()
    assert f"no gateway at http://127.0.0.1:{port}" in cli("models", "list", "--port", str(port), fails=True).stderr
    assert "TUNESMITH_API_KEY" in cli("models", "list", fails=True, TUNESMITH_API_KEY="").stderr
    assert "secrets/api_key" in cli("models", "list", fails=True, TUNESMITH_API_KEY="ts-wrong").stderr
    assert "--help" in cli("models", fails=True).stderr
    assert "is no address" in cli("models", "list", fails=True, TUNESMITH_URL="ftp://here").stderr
    assert "number from 1 to 65535" in cli("models", "list", fails=True, TUNESMITH_PORT="many").stderr
    assert "prompt is empty" in cli("generate", fails=True).stderr
    assert "nosuch" in cli("generate", "Hi", "--model", "nosuch", fails=True).stderr


def test_the_key_of_an_embedded_platform_is_found(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "data" / "secrets").mkdir(parents=True)
    (tmp_path / "data" / "secrets" / "api_key").write_text(f"{platform.key}\n")
    host, port = platform.url.removeprefix("http://").split(":")
    assert MODEL in cli("models", "list", TUNESMITH_API_KEY="", TUNESMITH_URL="", TUNESMITH_PORT=port).stdout
    assert MODEL in cli("models", "list", "--host", host, "--port", port, TUNESMITH_URL="http://nowhere").stdout


METRICS = {"step": 5, "total_steps": 10, "train_loss": 1.25, "tokens_per_second": 80.0, "eta_seconds": 3}
EVENTS: list[dict[str, Any]] = [
    {"type": "message", "level": "info", "message": "Training begins\x1b[31m", "created_at": 0, "data": {}},
    {"type": "metrics", "level": "info", "message": "step 5", "created_at": 1, "data": METRICS},
]


async def test_a_job_is_followed_to_its_model() -> None:
    async def events(_request: web.Request) -> web.Response:
        lines = "".join(f"data: {json.dumps(event)}\n\n" for event in EVENTS)
        return web.Response(text=f"{lines}data: [DONE]\n\n", content_type="text/event-stream")

    async def job(_request: web.Request) -> web.Response:
        return web.json_response({"id": "j", "status": "succeeded", "fine_tuned_model": "m:latest", "error": None})

    app = web.Application()
    app.router.add_get("/v1/fine_tuning/jobs/j/events", events)
    app.router.add_get("/v1/fine_tuning/jobs/j", job)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        piped = await _output(site.name, "jobs", "follow", "j")
        assert piped.splitlines()[1] == "1970-01-01T00:00:01Z\tinfo\tstep 5"
        assert "m:latest is ready" in piped
        told = [json.loads(line) for line in (await _output(site.name, "jobs", "follow", "j", "--json")).splitlines()]
        assert (told[1]["data"], told[2]["status"]) == (METRICS, "succeeded")
    finally:
        await runner.cleanup()


async def _output(url: str, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command(*words), env=environment(url, "ts-scripted"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()
