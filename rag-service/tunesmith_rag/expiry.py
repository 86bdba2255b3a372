"""When a vector store expires: so many days after it was last used. `watch.py` then removes what is left of it."""

from tunesmith_shared.clock import now
from tunesmith_shared.errors import BadRequest
from tunesmith_shared.tables import VectorStore

DAY_SECONDS = 24 * 60 * 60


def expires_at(store: VectorStore) -> int | None:
    """Return the time at which a store expires unless it is used, in seconds since 1970; None when it never does."""
    return store.last_active_at + store.expires_after_days * DAY_SECONDS if store.expires_after_days else None


def expired(store: VectorStore) -> bool:
    """Say whether the store has expired. From that moment on it answers nothing, removed or not."""
    time = expires_at(store)
    return time is not None and time <= now()


def check_usable(store: VectorStore) -> None:
    """Raise `BadRequest` when the store has expired."""
    if expired(store):
        raise BadRequest(
            f"The vector store {store.id} has expired: it was not used for {store.expires_after_days} days and its "
            "files were removed. Set another expires_after and add the files again, or make a new store.",
            param="vector_store_id",
            code="vector_store_expired",
        )
