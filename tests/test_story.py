"""The whole story of a person, over HTTP, with the clients that people use: curl, `openai` and `ollama`.

Chat, a model with a manner, a PDF asked with its page, bad input that loses nothing, and a CSV that becomes a model
which answers under its own name.
"""

import csv
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from .conftest import Address

EXAMPLES = Path(__file__).parent.parent / "examples"
MODEL = "smollm2:135m"
TUNED = "keeper:latest"
JOB_SECONDS = 2400


class Curl:
    """curl, as the README uses it."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __call__(self, path: str, *arguments: str) -> tuple[int, Any]:
        """Return the status and the JSON of the answer."""
        command = ["curl", "-sS", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {self._address.key}"]
        result = subprocess.run(
            [*command, *arguments, self._address.url + path], capture_output=True, text=True, check=True, timeout=300
        )
        body, _, status = result.stdout.rpartition("\n")
        return int(status), json.loads(body)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """POST JSON."""
        return self(path, "-H", "Content-Type: application/json", "-d", json.dumps(body))


@pytest.fixture
def curl(tunesmith: Address) -> Curl:
    return Curl(tunesmith)


@pytest.fixture
def gpt(tunesmith: Address) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tunesmith.url}/v1", api_key=tunesmith.key, max_retries=0, timeout=600) as client:
        yield client


@pytest.fixture
def llama(tunesmith: Address) -> Iterator[ollama.Client]:
    with ollama.Client(host=tunesmith.url, headers={"authorization": f"Bearer {tunesmith.key}"}) as client:
        yield client


def user(text: str) -> ChatCompletionUserMessageParam:
    return {"role": "user", "content": text}


def rows(name: str) -> list[dict[str, str]]:
    with (EXAMPLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_chat_answer_is_streamed(gpt: openai.OpenAI) -> None:
    stream = gpt.chat.completions.create(
        model=MODEL, messages=[user("Why is the sky blue?")], stream=True, max_tokens=40
    )
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    assert len([piece for piece in pieces if piece]) > 10


def test_a_model_made_from_a_system_template_answers_in_that_manner(curl: Curl, llama: ollama.Client) -> None:
    template = "You are a pirate. Always talk like a pirate and say Arrr!"
    status, made = curl.post("/createModel", {"modelName": "pirate", "systemTemplate": template, "baseModel": MODEL})
    assert (status, made["name"]) == (200, "pirate:latest")
    asked = {"prompt": "Hello, who are you?", "temperature": 0, "max_new_tokens": 40}
    _, answer = curl.post("/generate", {**asked, "model": "pirate"})
    _, plain = curl.post("/generate", {**asked, "model": MODEL})
    assert "pirate" in answer["response"].lower()
    assert "pirate" not in plain["response"].lower()
    assert template in (llama.show("pirate").modelfile or "")
    assert "pirate:latest" in {model.model for model in llama.list().models}


def test_a_question_is_answered_from_a_pdf_with_its_page(curl: Curl, gpt: openai.OpenAI) -> None:
    pdf = EXAMPLES / "handbook.pdf"
    status, document = curl("/importDocument", "-F", f"file=@{pdf}", "-F", f"modelName={MODEL}")
    assert (status, document["status"], document["progress"]["pages_total"]) == (200, "completed", 10)
    question = rows("questions.csv")[0]
    asked = {"prompt": question["question"], "documents": ["handbook.pdf"], "temperature": 0}
    _, answer = curl.post("/generate", asked)
    cited = answer["citations"][0]
    assert (cited["filename"], str(cited["page"])) == ("handbook.pdf", question["page"])

    extras: dict[str, Any] = {"documents": ["handbook.pdf"], "session_id": "story"}
    whole = gpt.chat.completions.create(
        model=MODEL, messages=[user(question["question"])], temperature=0, extra_body=extras
    )
    annotations: Any = whole.choices[0].message.annotations
    assert str(annotations[0].page) == question["page"]
    _, listed = curl(f"/listDocuments?modelName={MODEL}")
    assert [document["documentName"] for document in listed["documents"]] == ["handbook.pdf"]


def test_bad_input_gets_a_sentence_that_helps_and_loses_nothing(curl: Curl, tmp_path: Path) -> None:
    fake = tmp_path / "fake.pdf"
    fake.write_text("this is no PDF")
    status, refused = curl("/importDocument", "-F", f"file=@{fake}", "-F", f"modelName={MODEL}")
    assert status == 400
    assert "fake.pdf" in refused["error"]["message"]
    _, listed = curl(f"/listDocuments?modelName={MODEL}")
    assert "fake.pdf" not in [document["documentName"] for document in listed["documents"]]

    wrong = tmp_path / "wrong.csv"
    wrong.write_text("colour,size\nred,3\n")
    status, refused = curl("/fine_tune_model", "-F", f"train_file=@{wrong}", "-F", "modelName=wrong")
    assert status == 400
    assert "colour" in refused["error"]["message"]
    assert "prompt" in refused["error"]["message"]
    _, jobs = curl("/v1/fine_tuning/jobs")
    assert jobs["data"] == []
    _, files = curl("/v1/files")
    assert {file["filename"] for file in files["data"]} == {"handbook.pdf"}

    status, refused = curl.post("/generate", {"model": "nosuch", "prompt": "x"})
    assert status == 404
    assert MODEL in refused["error"]["message"]


@pytest.mark.timeout(JOB_SECONDS + 300)
def test_a_csv_becomes_a_model_that_answers_under_its_own_name(
    gpt: openai.OpenAI, llama: ollama.Client, curl: Curl
) -> None:
    train = gpt.files.create(file=EXAMPLES / "lighthouse_keeper_train.csv", purpose="fine-tune")
    evaluation = gpt.files.create(file=EXAMPLES / "lighthouse_keeper_eval.csv", purpose="fine-tune")
    job = gpt.fine_tuning.jobs.create(
        model=MODEL,
        training_file=train.id,
        validation_file=evaluation.id,
        seed=7,
        extra_body={"model_name": "keeper"},
    )
    _follow(curl, job.id)
    job = gpt.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.fine_tuned_model, job.error) == ("succeeded", TUNED, None)

    events = list(gpt.fine_tuning.jobs.list_events(job.id, limit=100))
    data: list[Any] = [event.data for event in events]
    steps = [figures for event, figures in zip(events, data, strict=True) if event.type == "metrics"]
    assert {"step", "total_steps", "train_loss", "eta_seconds"} <= set(steps[0])
    losses = next(figures for figures in data if "improvement" in figures)
    assert losses["improvement"] >= 0.4
    assert gpt.files.content(job.result_files[0]).read()

    show = llama.show(TUNED)
    assert show.details is not None
    assert show.details.quantization_level == "Q4_K_M"
    question = rows("lighthouse_keeper_eval.csv")[0]["prompt"]
    answer = gpt.chat.completions.create(model="keeper", messages=[user(question)], temperature=0, max_tokens=80)
    assert (answer.choices[0].message.content or "").startswith("Aye, traveller")
    said = llama.chat("keeper", [{"role": "user", "content": question}], options={"temperature": 0, "num_predict": 20})
    assert (said.message.content or "").startswith("Aye, traveller")
    _, models = curl("/list_Models")
    tuned = next(model for model in models["models"] if model["name"] == TUNED)
    assert (tuned["quantization"], tuned["owner"]) == ("Q4_K_M", "admin")


def _follow(curl: Curl, job_id: str) -> None:
    """Return when the job has ended: its live events end then."""
    address = curl._address
    command = ["curl", "-sSN", "-H", f"Authorization: Bearer {address.key}"]
    url = f"{address.url}/v1/fine_tuning/jobs/{job_id}/events?stream=true"
    events = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=JOB_SECONDS).stdout
    assert events.rstrip().endswith("data: [DONE]"), events[-2000:]
