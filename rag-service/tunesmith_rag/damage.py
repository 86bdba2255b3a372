"""What is said when the index's files cannot be read."""

from tunesmith_shared.errors import Unavailable

DAMAGED = "index_damaged"


def damaged(reason: str) -> Unavailable:
    """Return the error for an index whose files cannot be read."""
    return Unavailable(
        f"The index of the documents is damaged ({reason}). The documents themselves are safe: rebuild the index from "
        "them with `python -m tunesmith_rag.rebuild` (in Docker Compose: `docker compose exec rag-service python -m "
        "tunesmith_rag.rebuild`).",
        code=DAMAGED,
    )
