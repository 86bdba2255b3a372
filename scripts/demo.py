"""Walk the whole story on real input: `make demo`, or `python scripts/demo.py [--pdf FILE --question TEXT]`.

Chat, a model with a manner from a system template, a PDF asked with its page cited, and a CSV fine-tuned into a model
that answers under its own name. Uses the platform that is running, or starts one and stops it at the end.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from tunesmith_shared.settings import ServiceSettings, load_settings

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
CHAT_MODEL = "smollm2:135m"
PIRATE = "pirate"
KEEPER = "lighthouse-keeper"
TEMPLATE = "You are a pirate. Always talk like a pirate and say Arrr!"
START_SECONDS = 600

Json = dict[str, Any]
console = Console(highlight=False)


def main() -> int:
    """Return 0 when every step worked."""
    arguments = _arguments()
    settings = load_settings(ServiceSettings)
    took: dict[str, float] = {}
    try:
        with _platform(settings), _client(settings) as client:
            _timed(took, "Chat", lambda: chat(client))
            _timed(took, "Model with a system template", lambda: system_template(client))
            _timed(took, "PDF imported and asked", lambda: document(client, arguments.pdf, arguments.question))
            _timed(took, "Fine-tuning from a CSV", lambda: fine_tune(client))
            summary(client, took, settings)
    except httpx.HTTPStatusError as error:
        console.print(f"[red]{escape(_message(error.response))}[/red]")
        return 1
    except (httpx.TransportError, RuntimeError) as error:
        console.print(f"[red]{escape(str(error) or type(error).__name__)}[/red]")
        return 1
    return 0


def chat(client: httpx.Client) -> None:
    """Step 1: a streamed answer over OpenAI's dialect."""
    _title("1. Chat with smollm2:135m, streamed")
    question = "Why is the sky blue? Answer in two sentences."
    _asked(question)
    body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": question}], "stream": True, "max_tokens": 120}
    for part in _events(client, "POST", "/v1/chat/completions", body):
        for choice in part["choices"]:
            console.print(choice["delta"].get("content") or "", end="", markup=False, soft_wrap=True)
    console.print()


def system_template(client: httpx.Client) -> None:
    """Step 2: a model made from another with a system template."""
    _title(f"2. Make the model '{PIRATE}' with a system template")
    _post(client, "/createModel", {"modelName": PIRATE, "baseModel": CHAT_MODEL, "systemTemplate": TEMPLATE})
    console.print(f"[dim]{escape(TEMPLATE)}[/dim]")
    question = "Hello, who are you?"
    _asked(question)
    _answered(_post(client, "/generate", {"model": PIRATE, "prompt": question, "max_new_tokens": 90, "temperature": 0}))


def document(client: httpx.Client, pdf: Path, question: str | None) -> None:
    """Step 3: a PDF imported for a model, and a question answered from it with its page."""
    _title(f"3. Import {pdf.name} and ask it")
    with pdf.open("rb") as file:
        answer = client.post("/importDocument", files={"file": (pdf.name, file)}, data={"modelName": CHAT_MODEL})
    answer.raise_for_status()
    progress = answer.json()["progress"]
    console.print(f"{progress['pages_total']} pages, {progress['chunks_total']} chunks.")
    question = question or _first_row(EXAMPLES / "questions.csv")["question"]
    _asked(question)
    body = {"prompt": question, "documents": [pdf.name], "max_new_tokens": 120, "temperature": 0}
    grounded = _post(client, "/generate", body)
    _answered(grounded)
    if grounded["retrieval"]["refused"]:  # names its pages itself
        return
    for citation in grounded["citations"]:
        console.print(f"  [green]{escape(citation['filename'])}, page {citation['page']}[/green]: ", end="")
        console.print(f"“{citation['quote']}”", markup=False)
    if not grounded["citations"]:
        console.print("  no page of the document supports this answer", style="yellow")


def fine_tune(client: httpx.Client) -> None:
    """Step 4: a CSV fine-tuned; the same question before and after."""
    _title(f"4. Fine-tune '{KEEPER}' from examples/lighthouse_keeper_train.csv")
    question = _first_row(EXAMPLES / "lighthouse_keeper_eval.csv")["prompt"]
    ask = {"prompt": question, "max_new_tokens": 120, "temperature": 0}
    before = _post(client, "/generate", {**ask, "model": CHAT_MODEL})["response"]
    files = {
        "train_file": ("train.csv", (EXAMPLES / "lighthouse_keeper_train.csv").read_bytes()),
        "eval_file": ("eval.csv", (EXAMPLES / "lighthouse_keeper_eval.csv").read_bytes()),
    }
    form = {"modelName": KEEPER, "baseModel": CHAT_MODEL}
    answer = client.post("/fine_tune_model", files=files, data=form)
    answer.raise_for_status()
    _follow(client, answer.json()["id"])
    after = _post(client, "/generate", {**ask, "model": KEEPER})["response"]
    table = Table(title=f"“{question}”", show_lines=True, expand=True)
    table.add_column(f"before: {CHAT_MODEL}", ratio=1)
    table.add_column(f"after: {KEEPER}", ratio=1)
    table.add_row(escape(before), escape(after))
    console.print(table)


def summary(client: httpx.Client, took: dict[str, float], settings: ServiceSettings) -> None:
    """Step 5: what it took, and where the new model is."""
    _title("5. What it took")
    times = Table("step", "seconds")
    for step, seconds in took.items():
        times.add_row(step, f"{seconds:.1f}")
    times.add_row("all", f"{sum(took.values()):.1f}")
    console.print(times)
    models = Table("model", "size", "quantisation", "made from", title="GET /list_Models")
    for model in client.get("/list_Models").raise_for_status().json()["models"]:
        size = f"{model['size'] / 2**20:.0f} MiB"
        models.add_row(model["name"], size, model["quantization"], model["base"] or "-")
    console.print(models)
    console.print(f"The models are in {settings.models_path}, in Ollama's own layout.")


def _follow(client: httpx.Client, job_id: str) -> None:
    """Show a job's events until it ends. Raises RuntimeError with its error when it did not succeed."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task("training", total=None, figures="")
        for event in _events(client, "GET", f"/v1/fine_tuning/jobs/{job_id}/events?stream=true", None):
            data = event["data"]
            if event["type"] == "metrics":
                _show_step(progress, task, data)
            else:
                progress.console.print(f"  {event['message']}", markup=False)
    job = client.get(f"/v1/fine_tuning/jobs/{job_id}").raise_for_status().json()
    if job["status"] != "succeeded":
        raise RuntimeError(f"The job ended {job['status']}: {(job['error'] or {}).get('message', 'no reason given')}")


def _show_step(progress: Progress, task: Any, data: Json) -> None:
    figures = f"step {data['step']}/{data['total_steps']}"
    if data.get("train_loss") is not None:
        figures += f"  loss {data['train_loss']:.3f}"
    if data.get("eta_seconds") is not None:
        figures += f"  {data['eta_seconds']:.0f} s left"
    progress.update(task, completed=data["step"], total=data["total_steps"], figures=figures)
    if not console.is_terminal and data["step"] % 10 == 0:
        console.print(f"  {figures}", markup=False)


@contextmanager
def _platform(settings: ServiceSettings) -> Iterator[None]:
    """Use the platform that answers, or run one for as long as the demo takes."""
    if _ready(settings):
        yield
        return
    log = settings.data_dir / "demo-platform.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    console.print(f"Starting the platform (its log is {log}) …")
    with log.open("wb") as output:
        command = [sys.executable, str(ROOT / "scripts" / "run.py")]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _ready(settings):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The platform did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def _ready(settings: ServiceSettings) -> bool:
    try:
        if httpx.get(f"{_url(settings)}/health", timeout=10).status_code != 200:
            return False
        models = httpx.get(f"{_url(settings)}/list_Models", headers=_headers(settings), timeout=10).json()["models"]
    except (httpx.HTTPError, KeyError, OSError):
        return False
    return {CHAT_MODEL, "all-minilm:latest"} <= {model["name"] for model in models}


def _url(settings: ServiceSettings) -> str:
    return os.environ.get("TUNESMITH_URL") or f"http://{settings.host}:{settings.port}"


def _headers(settings: ServiceSettings) -> dict[str, str]:
    key = os.environ.get("TUNESMITH_API_KEY") or (settings.data_dir / "secrets" / "api_key").read_text().strip()
    return {"authorization": f"Bearer {key}"}


def _client(settings: ServiceSettings) -> httpx.Client:
    return httpx.Client(base_url=_url(settings), headers=_headers(settings), timeout=httpx.Timeout(600, connect=5))


def _events(client: httpx.Client, method: str, path: str, body: Json | None) -> Iterator[Json]:
    """Yield the JSON of each server-sent event. Raises the answer's error, or RuntimeError for one in the stream."""
    with client.stream(method, path, json=body) as answer:
        if answer.is_error:
            answer.read()
            answer.raise_for_status()
        for line in answer.iter_lines():
            data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if data == "[DONE]":
                return
            if data:
                part: Json = json.loads(data)
                if "error" in part and "object" not in part:
                    raise RuntimeError(str(part["error"]["message"]))
                yield part


def _post(client: httpx.Client, path: str, body: Json) -> Json:
    answer: Json = client.post(path, json=body).raise_for_status().json()
    return answer


def _first_row(file: Path) -> dict[str, str]:
    with file.open(newline="", encoding="utf-8") as rows:
        return next(csv.DictReader(rows))


def _timed(took: dict[str, float], step: str, work: Callable[[], None]) -> None:
    started = time.perf_counter()
    work()
    took[step] = time.perf_counter() - started


def _title(text: str) -> None:
    console.print()
    console.rule(f"[bold]{escape(text)}", align="left")


def _asked(question: str) -> None:
    console.print(f"[bold cyan]>[/bold cyan] {escape(question)}")


def _answered(answer: Json) -> None:
    console.print(answer["response"].strip(), markup=False, soft_wrap=True)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (json.JSONDecodeError, KeyError, TypeError, httpx.ResponseNotRead):
        return f"{response.request.url} answered with status {response.status_code}."


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pdf", type=Path, default=EXAMPLES / "handbook.pdf", help="the document to import")
    parser.add_argument("--question", help="what to ask it (default: the first of examples/questions.csv)")
    arguments = parser.parse_args()
    if not arguments.pdf.is_file():
        parser.error(f"there is no file {arguments.pdf}")
    if arguments.pdf != EXAMPLES / "handbook.pdf" and arguments.question is None:
        arguments.question = "What is this document about?"
    return arguments


if __name__ == "__main__":
    sys.exit(main())
