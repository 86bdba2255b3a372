"""Checks what Compose makes of the project's files, with nothing started: `python scripts/check_config.py ENVFILE`.

The limits of every service, what is published, who reaches the internet, and the overrides: GPU, hub, caddy.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from compose_stack import configuration, require

from tunesmith_shared.settings import ServiceSettings

FILE, EMBEDDED = "docker-compose.yml", "docker-compose.embedded.yml"
ONE_SHOT = {"migrate", "storage", "base-model", "model"}
OUTSIDE = {
    "gateway": {"edge", "internal"},
    "ollama": {"hub", "internal"},
    "caddy": {"edge"},
    "base-model": {"hub"},
    "model": {"hub"},
}
"""Who is on a network with a way out; everyone else is on `internal` alone."""
UNITS = {"s": 1, "m": 60}


def main(env_file: str) -> None:
    """Check every combination of files that the README names."""
    os.environ.pop("COMPOSE_FILE", None)

    def read(*options: str) -> dict[str, Any]:
        return configuration("--env-file", env_file, *options)["services"]  # type: ignore[no-any-return]

    everything = read("--file", FILE, "--profile", "*")
    for name, service in everything.items():
        check_service(name, service)
        check_networks(name, service)
    check_networks("ollama", read("--file", FILE, "--file", EMBEDDED)["ollama"], {"internal"})
    unasked = {"caddy", "base-model", "model"} & set(read("--file", FILE))
    require(not unasked, f"{sorted(unasked)} runs without its profile")
    check_gpu(read("--file", FILE, "--file", "docker-compose.gpu.yml"))
    worker = read("--file", FILE, "--file", "docker-compose.hub.yml")["finetune-worker"]
    check_networks("finetune-worker", worker, {"internal", "hub"})
    require(worker["environment"]["HF_HUB_OFFLINE"] == "0", "the hub override leaves the worker offline")
    check_that_secrets_have_no_defaults()
    print(f"{len(everything)} services: limits, logs, capabilities and networks are as they should be")
    print("the overrides for GPUs, the hub and the engine, and the profiles, too")


def check_service(name: str, service: dict[str, Any]) -> None:
    """Require a service's limits, its restart policy, its log's, and that it keeps no right that it does not need."""
    require(int(service.get("mem_limit", 0)) > 0 and service.get("pids_limit"), f"{name} has no limits")
    require(service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), f"{name}: {service['restart']}")
    logs = service["logging"]
    require(logs["driver"] == "json-file" and {"max-size", "max-file"} <= set(logs["options"]), f"{name}'s log grows")
    require(service["read_only"] and service["cap_drop"] == ["ALL"], f"{name} can write to its root or has rights")
    require(service["security_opt"] == ["no-new-privileges:true"], f"{name} can gain rights")
    drain = ServiceSettings.model_fields["drain_seconds"].default
    grace = sum(int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+)([ms])", service["stop_grace_period"]))
    require(grace > drain, f"{name} is killed after {grace} s; services drain for {drain:g} s")
    if "build" not in service:
        tag = service["image"].rpartition(":")[2]
        require(re.match(r"\d+", tag), f"{name}'s image {service['image']} is not pinned")
        require(service.get("healthcheck"), f"{name} has no health check")


def check_networks(name: str, service: dict[str, Any], wanted: set[str] | None = None) -> None:
    """Require that a service is on its networks alone, and publishes what it should."""
    networks = set(service["networks"])
    wanted = wanted or OUTSIDE.get(name, {"internal"})
    require(networks == wanted, f"{name} is on {sorted(networks)} and should be on {sorted(wanted)}")
    ports = {(port.get("host_ip"), port["target"]) for port in service.get("ports", [])}
    published = {"gateway": {("127.0.0.1", 8000)}, "caddy": {(None, 8080), (None, 8443)}}.get(name, set())
    require(ports == published, f"{name} publishes {ports}")


def check_gpu(services: dict[str, Any]) -> None:
    """Require that Ollama and the worker reserve NVIDIA's devices, and that the worker's image is CUDA's."""
    for name in ("ollama", "finetune-worker"):
        [device] = services[name]["deploy"]["resources"]["reservations"]["devices"]
        require(device["driver"] == "nvidia" and device["capabilities"] == ["gpu"], f"{name} reserves {device}")
        require(device["count"] == -1, f"{name} sees {device['count']} GPUs, not all")
    worker = services["finetune-worker"]
    require(worker["build"]["args"]["TORCH"] == "cuda", "the worker's torch is not CUDA's")
    require(worker["image"].endswith("-cuda"), "the CUDA image has the name of the CPU image")
    require(worker["environment"]["TUNESMITH_EXPECT_GPU"] == "true", "the worker does not say that it has no GPU")


def check_that_secrets_have_no_defaults() -> None:
    """Require that nothing starts without .env, and that the sentence says what to do."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "env"
        empty.touch()
        secrets = {"POSTGRES_PASSWORD", "TUNESMITH_SERVICE_TOKEN", "TUNESMITH_API_KEY"}
        environment = {key: value for key, value in os.environ.items() if key not in secrets}
        command = ["docker", "compose", "--env-file", str(empty), "--file", FILE, "config", "--quiet"]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        require(answer.returncode, "the stack starts without secrets")
        require("make_env.sh" in answer.stderr, f"without .env it says: {answer.stderr}")


if __name__ == "__main__":
    main(sys.argv[1])
