"""Rebuild the index from the stored files: `python -m tunesmith_rag.rebuild`, beside the running rag-service.

Prints how many documents are still to be done and returns when all are searchable again.
"""

import sys
import time

import httpx

from tunesmith_rag.settings import RagSettings
from tunesmith_shared.auth import service_headers
from tunesmith_shared.settings import load_settings

_SECONDS, _LOOK_SECONDS = 600.0, 1.0


def main() -> int:
    """Ask the service to rebuild and follow it; return the exit status."""
    settings = load_settings(RagSettings)
    url = settings.rag_url
    headers = service_headers(settings, "rebuild")
    with httpx.Client(base_url=url, headers=headers, timeout=_SECONDS) as client:
        try:
            waiting = _waiting(client.post("/index/rebuild"))
            while waiting:
                _say(f"{waiting} documents to do")
                time.sleep(_LOOK_SECONDS)
                waiting = _waiting(client.get("/index"))
        except httpx.TransportError as error:
            _say(f"The rag-service at {url} does not answer ({error}). Start it, and run this again.")
            return 1
        except httpx.HTTPStatusError as error:
            _say(f"The rag-service refused: {error.response.text}")
            return 1
    _say("The index is rebuilt.")
    return 0


def _waiting(response: httpx.Response) -> int:
    return int(response.raise_for_status().json()["documents_in_progress"])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
