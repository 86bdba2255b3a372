"""The checks of scripts/test_compose.sh on a running Compose stack: `python scripts/check_compose.py <check>`.

The stack is the one of COMPOSE_PROJECT_NAME and COMPOSE_FILE; its gateway is at TUNESMITH_URL. A check prints what it
saw and leaves with status 1, after a sentence, when that is not as it should be.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from compose_stack import containers, docker, require

EXAMPLES = Path(__file__).parent.parent / "examples"
INNER_PORTS = {5432, 8000, 8001, 8002, 11434}
ROOT_IS_NEEDED = {("postgres", "pg_isready")}
"""PostgreSQL's image starts as root to become another user; Docker runs its health check as who it started as."""
KILLED, BROKEN = 137, 1
"""Exit codes: of what did not stop within its grace period, and of what could not stop by itself."""
WAY_OUT = {"gateway"}
"""Who may be on a network with a way to the internet; Ollama's own image would be, too."""
MODEL = "smollm2:135m"
SECONDS = 1200.0


def wait_for(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Return as soon as `condition` holds; end when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < deadline, f"not within {seconds:g} s: {what}")
        time.sleep(0.2)


def gateway() -> httpx.Client:
    """Return a client of the gateway, with the administrator's key."""
    key = os.environ["TUNESMITH_API_KEY"]
    return httpx.Client(
        base_url=os.environ["TUNESMITH_URL"], headers={"authorization": f"Bearer {key}"}, timeout=300, trust_env=False
    )


def open_ports() -> set[int]:
    """Return the ports of the loopback that something listens on."""
    found = set()
    for port in range(1, 65536):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.add(port)
    return found


def healthy() -> None:
    """Require that every container with a health check is healthy and that the gateway sees all parts."""
    for service, container in containers().items():
        health = container["State"].get("Health", {}).get("Status")
        require(health == "healthy", f"{service} is {health or 'without a health check'}")
    with gateway() as client:
        wait_for(lambda: client.get("/health").is_success, "the gateway's /health is well", 60)


def published(before: Path) -> None:
    """Require that the gateway's port is all that can be reached from this machine."""
    ours = int(os.environ["TUNESMITH_PORT"])
    for service, container in containers().items():
        bound = {
            (binding["HostIp"], int(binding["HostPort"]))
            for bindings in container["NetworkSettings"]["Ports"].values()
            for binding in bindings or []
        }
        print(f"{service:<16} publishes {sorted(bound) or 'nothing'}")
        require(bound == ({("127.0.0.1", ours)} if service == "gateway" else set()), f"{service} publishes {bound}")
    now = open_ports()
    leaked = (now - set(json.loads(before.read_text()))) & INNER_PORTS - {ours}
    print(f"the loopback has {ours} open{', and none of the inner ports' if not leaked else ''}")
    require(ours in now and not leaked, f"ports {leaked} of the loopback are open")


def users() -> None:
    """Require that nothing runs as root but what must, and that root's rights are taken away."""
    for service, container in containers().items():
        lines = docker("top", container["Id"], "-eo", "pid,uid,comm").splitlines()[1:]
        seen = {(int(line.split()[1]), line.split()[2]) for line in lines}
        print(f"{service:<16} uids {sorted({uid for uid, _ in seen})}")
        # Docker's own runc is seen for a moment, on its way to becoming a health check.
        roots = {(service, name) for uid, name in seen if uid == 0 and not name.startswith("runc")} - ROOT_IS_NEEDED
        require(not roots, f"{sorted(name for _, name in roots)} in {service} run as root")
        host = container["HostConfig"]
        require(host["ReadonlyRootfs"], f"{service}'s root file system can be written")
        require(host["CapDrop"] == ["ALL"] and not host["Privileged"], f"{service} keeps capabilities")
        require(host["Memory"] > 0, f"{service} has no memory limit")


def confinement() -> None:
    """Try from inside to write to the root file system; look at capabilities, and at networks with a way out."""
    for service, container in containers().items():

        def inside(script: str, container: str = container["Id"]) -> str:
            return docker("exec", container, "sh", "-c", script).strip()

        written = inside("touch /probe 2>/dev/null && echo written || true")
        require(not written, f"{service} wrote to its root file system")
        rights = int(inside("sed -n 's/^CapEff:[[:space:]]*//p' /proc/1/status"), 16)
        require(not rights or service == "postgres", f"{service} has the capabilities {rights:x}")
        networks = json.loads(docker("network", "inspect", *container["NetworkSettings"]["Networks"]))
        leaves = any(not network["Internal"] for network in networks)
        require(leaves == (service in WAY_OUT), f"{service} {'has a' if leaves else 'has no'} way out of its networks")
    print(f"no container writes to its root, and none but {', '.join(WAY_OUT)} is on a network with a way out")


def stops() -> None:
    """Stop the stack: every container must end by itself within its grace period."""
    before, started = containers(), time.monotonic()
    docker("compose", "stop")
    seconds = time.monotonic() - started
    for service, container in before.items():
        code = int(docker("inspect", "--format", "{{.State.ExitCode}}", container["Id"]))
        require(code not in (KILLED, BROKEN), f"{service} was stopped and ended with {code}")
    print(f"stopped within {seconds:.0f} s, every container by itself")


def cleaned() -> None:
    """Require that no document is left, and no model but those that came with the engine."""
    with gateway() as client:
        stores = client.get("/v1/vector_stores").raise_for_status().json()["data"]
        models = {model["id"] for model in client.get("/v1/models").raise_for_status().json()["data"]}
    require(not stores and models <= {MODEL, "all-minilm", "all-minilm:latest"}, f"there are {stores} and {models}")
    print("the clean scripts left no document and no made model")


def chat_survives() -> None:
    """Kill the engine while it answers: the stream ends with an error event, and the next chat is answered."""
    body = {"model": MODEL, "stream": True, "max_tokens": 2000, "messages": [{"role": "user", "content": "Count."}]}
    lines, killed_after = [], 0
    with gateway() as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if not killed_after and sum("content" in seen for seen in lines) >= 5:
                    docker("compose", "kill", "--signal", "KILL", "ollama")
                    killed_after = len(lines)
        require(killed_after, "the answer ended before the engine could be killed")
        require(any('"error"' in line for line in lines), f"the stream ended without an error event: {lines[-3:]}")
        print(f"the stream ended with: {next(line for line in reversed(lines) if line)[:160]}")
        docker("compose", "up", "--detach", "--wait", "ollama")
        again = client.post("/v1/chat/completions", json={**body, "stream": False, "max_tokens": 8})
        require(again.is_success, f"the next chat answered {again.status_code}: {again.text[:300]}")
        print("the next chat was answered")


def training_survives() -> None:
    """Kill the worker while it trains: the job goes on and ends succeeded, and its model answers."""
    with gateway() as client:
        with (EXAMPLES / "lighthouse_keeper_train.csv").open("rb") as file:
            upload = client.post("/v1/files", files={"file": file}, data={"purpose": "fine-tune"}).json()["id"]
        wanted = {"model": MODEL, "training_file": upload, "model_name": "survivor", "hyperparameters": {"n_epochs": 1}}
        job = client.post("/v1/fine_tuning/jobs", json=wanted).raise_for_status().json()["id"]
        url = f"/v1/fine_tuning/jobs/{job}"

        def trains() -> bool:
            events = client.get(f"{url}/events").json()["data"]
            return any((event.get("data") or {}).get("step", 0) >= 2 for event in events)

        wait_for(trains, "the job trains")
        docker("compose", "kill", "--signal", "KILL", "finetune-worker")
        print(f"killed the worker in the training of {job}")
        docker("compose", "up", "--detach", "--wait", "finetune-worker")
        state: dict[str, Any] = {}

        def ended() -> bool:
            state.update(client.get(url).json())
            return state["status"] in ("succeeded", "failed", "cancelled")

        wait_for(ended, "the job ends")
        require(state["status"] == "succeeded", f"the job ended {state['status']}: {state['error']}")
        question = {"model": "survivor", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        answer = client.post("/v1/chat/completions", json=question)
        require(answer.is_success, f"its model answered {answer.status_code}: {answer.text[:300]}")
        print("the job went on, succeeded, and its model answers")


def answers() -> None:
    """Print what the stack knows and says without chance: what a restored backup must know and say again.

    The search is without rewriting, which leaves out what takes too long and so depends on the machine's load.
    """
    question = "How often is the rain gauge calibrated?"
    plain = {"prompt": question, "temperature": 0, "max_new_tokens": 40}
    with gateway() as client:

        def listed(path: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = client.get(path).raise_for_status().json()["data"]
            return found

        [store] = listed("/v1/vector_stores")
        search = {"query": question, "rewrite_query": False}
        hits = client.post(f"/v1/vector_stores/{store['id']}/search", json=search).raise_for_status().json()["data"]
        known = {
            "answer": client.post("/generate", json=plain).raise_for_status().json()["response"],
            "found": [(hit["filename"], hit["attributes"]["page"], hit["content"][0]["text"]) for hit in hits],
            "models": sorted(model["id"] for model in listed("/v1/models")),
            "jobs": sorted((job["id"], job["status"]) for job in listed("/v1/fine_tuning/jobs")),
            "files": sorted(file["id"] for file in listed("/v1/files")),
        }
    print(json.dumps(known, indent=1))


CHECKS: dict[str, Callable[[], None]] = {
    "ports-before": lambda: print(json.dumps(sorted(open_ports()))),
    "healthy": healthy,
    "published": lambda: published(Path(sys.argv[2])),
    "users": users,
    "confinement": confinement,
    "stops": stops,
    "cleaned": cleaned,
    "chat-survives": chat_survives,
    "training-survives": training_survives,
    "answers": answers,
}

if __name__ == "__main__":
    CHECKS[sys.argv[1]]()
