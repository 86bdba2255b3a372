"""What the checks of a Compose stack share: docker's answers, and a way to end with a sentence."""

import json
import subprocess
import sys
from typing import Any


def docker(*arguments: str) -> str:
    """Run docker and return what it prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S607


def require(condition: object, sentence: str) -> None:
    """End with `sentence` unless `condition` holds."""
    if not condition:
        sys.exit(f"check failed: {sentence}")


def containers() -> dict[str, Any]:
    """Return what `docker inspect` says about every running container of the stack, by service."""
    ids = docker("compose", "ps", "--quiet").split()
    return {
        item["Config"]["Labels"]["com.docker.compose.service"]: item for item in json.loads(docker("inspect", *ids))
    }


def configuration(*options: str) -> dict[str, Any]:
    """Return what Compose makes of its files, with `options` such as `--profile` or `--file` before the command."""
    found: dict[str, Any] = json.loads(docker("compose", *options, "config", "--format", "json"))
    return found
