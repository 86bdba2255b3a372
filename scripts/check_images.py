"""Checks the images of the Compose stack after they are built: size, labels, user, health check, what is not in them.

`python scripts/check_images.py` with COMPOSE_FILE and COMPOSE_ENV_FILES as for `docker compose`; TUNESMITH_REVISION is
the commit that the labels must name.
"""

import json
import os
from typing import Any

from compose_stack import configuration, docker, require

BASE_IMAGE = "python:3.11-slim-bookworm"
WITHOUT_TORCH = {"gateway", "rag-service"}
SMALL_MB = 400
ONE_SHOT = {"migrate", "storage"}
LABELS = ("title", "description", "version", "revision", "vendor")
SECRET_WORDS = ("PASSWORD", "TOKEN", "SECRET", "API_KEY")
USER = "10001:10001"


def main() -> None:
    """Check every image that the stack builds; print a line for each."""
    base = int(docker("image", "inspect", "--format", "{{.Size}}", BASE_IMAGE))
    for name, service in configuration()["services"].items():
        if "build" not in service or name == "storage":  # the image of migrate
            continue
        image = service["image"]
        facts = json.loads(docker("image", "inspect", image))[0]
        added = (facts["Size"] - base) / 1e6
        print(f"{image:<36} {added:7.0f} MB over {BASE_IMAGE}")
        check_metadata(name, facts)
        check_contents(name, image)
        require(name not in WITHOUT_TORCH or added < SMALL_MB, f"{name} adds {added:.0f} MB, more than {SMALL_MB}")
    print("all images: labels, user 10001, health checks, and no secrets in their layers")


def check_metadata(name: str, facts: dict[str, Any]) -> None:
    """Require the labels, the user, the health check, and no secret in the environment."""
    config = facts["Config"]
    labels = {label: (config["Labels"] or {}).get(f"org.opencontainers.image.{label}", "") for label in LABELS}
    require(all(labels.values()), f"{name} lacks labels: {labels}")
    wanted = os.environ.get("TUNESMITH_REVISION", "unknown")
    require(labels["revision"] == wanted, f"{name} is labelled {labels['revision']}, and this is {wanted}")
    require(config["User"] == USER, f"{name} runs as {config['User'] or 'root'}")
    check = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    require((check == ["NONE"]) == (name in ONE_SHOT), f"{name} has the health check {check}")
    secret = [entry for entry in config["Env"] if any(word in entry.partition("=")[0] for word in SECRET_WORDS)]
    require(not secret, f"{name} has {secret} in its environment")


def check_contents(name: str, image: str) -> None:
    """Require that the layers carry no secret, and that torch is where it belongs alone."""
    history = docker("image", "history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    for variable in ("POSTGRES_PASSWORD", "TUNESMITH_SERVICE_TOKEN", "TUNESMITH_API_KEY"):
        value = os.environ.get(variable)
        require(not value or value not in history, f"{name}'s history shows {variable}")
    look = "import importlib.util as u, pathlib as p; print(bool(u.find_spec('torch')), [*p.Path('/app').iterdir()])"
    torch, _, left = docker("run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", look).partition(
        " "
    )
    require((torch == "True") == (name == "finetune-worker"), f"{name}: torch is there: {torch}")
    require(left.strip() == "[]", f"{name} has files in /app: {left}")


if __name__ == "__main__":
    main()
