"""The SQL of embedding a store's documents anew beside the old vectors: a shadow of the store, and twins of documents.

A shadow is a vector store that nobody sees, with an index of its own and the new model. Its documents are ingested as
any others; when they are complete it is taken over, in one transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_rag.repository import ACTIVE, ANEW, Stores, blameless
from tunesmith_shared.clock import now
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import Document, VectorStore

_COPIED = ("owner", "file_id", "filename", "sha256", "attributes", "chunking_strategy", "created_at")
"""What a twin has of its original."""

_TAKEN = (
    *("status", "error_code", "error_message", "chunking_strategy", "facts", "usage_bytes"),
    *("pages_total", "pages_done", "chunks_total", "chunks_done"),
)
"""What an original takes of its twin."""


@dataclass(frozen=True)
class Reindexing:
    """How far the documents of a store are embedded with `model`: the number of them by status, and why it stopped."""

    model: str
    counts: Mapping[str, int]
    chunks_done: int
    error: str | None

    @property
    def failed(self) -> bool:
        """Whether it cannot be completed; the store stays as it was."""
        return self.error is not None and not self.counts.get("in_progress")


class Shadows:
    """Stores that are being filled to take over others."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def all(self) -> Sequence[VectorStore]:
        """Return the shadows of all stores."""
        return (await self._session.scalars(select(VectorStore).where(VectorStore.reindexes.is_not(None)))).all()

    async def of(self, store_id: str) -> VectorStore | None:
        """Return the shadow of a store."""
        return (await self._session.scalars(select(VectorStore).where(VectorStore.reindexes == store_id))).one_or_none()

    async def states(self, stores: Iterable[VectorStore]) -> dict[str, Reindexing]:
        """Return how far those of the stores are that are embedded anew."""
        indexes = {store.id: store.index for store in stores}
        shadows = await self._session.scalars(select(VectorStore).where(VectorStore.reindexes.in_(indexes)))
        return {
            str(shadow.reindexes): await self._state(shadow)
            for shadow in shadows.all()
            if indexes[str(shadow.reindexes)] != shadow.id  # otherwise it has taken over already
        }

    async def open(self, store: VectorStore, model: str) -> VectorStore:
        """Make a shadow of `store` that embeds with `model`. Raises `IntegrityError` when there is one."""
        shadow = VectorStore(
            id=new_id("vs"),
            owner=store.owner,
            name=store.name,
            embedding_model=model,
            details={},
            created_at=now(),
            last_active_at=now(),
            reindexes=store.id,
        )
        self._session.add(shadow)
        await self._session.flush()
        return shadow

    async def follow(self, shadow: VectorStore) -> list[str]:
        """Give every document that its store has by now a twin, with the attributes that it has by now.

        Return the twins whose originals are gone: their chunks are to be removed. Documents on their way get their
        twins when they are complete, those that failed for what they are get none.
        """
        originals = await self._originals(shadow)
        twins = {twin.chunks_name: twin for twin in await self._documents(shadow.id)}
        taken = {twin.sha256 for twin in twins.values()}
        for name, original in originals.items():
            twin = twins.get(name)
            if twin is None:
                if original.status != "in_progress" and original.sha256 not in taken:
                    self._session.add(_twin(original, shadow))
            elif twin.attributes != original.attributes:
                twin.attributes, twin.revision, twin.updated_at = original.attributes, twin.revision + 1, now()
                for column, value in ANEW.items():
                    setattr(twin, column, value)
        return [twin.id for name, twin in twins.items() if name not in originals]

    async def take_over(self, shadow: VectorStore) -> bool:
        """Make the shadow's vectors and model those of its store, if every document is complete there; say whether.

        From here on the shadow has the former index, for that to be removed.
        """
        # First, so that no document can be added meanwhile: this is a write, and `attach` begins with it too.
        await Stores(self._session).used(str(shadow.reindexes), now())
        store = await self._session.get(VectorStore, shadow.reindexes, populate_existing=True)
        current = await self._session.get(VectorStore, shadow.id, populate_existing=True)
        if store is None or current is None or store.index == current.id:
            return False
        originals = {document.id: document for document in await self._documents(store.id)}
        twins = await self._documents(shadow.id)
        if not _complete(originals, twins):
            return False
        for twin in twins:
            original = originals[twin.chunks_name]
            for column in _TAKEN:
                setattr(original, column, getattr(twin, column))
            original.updated_at = now()
            await self._session.delete(twin)
        # What was left of earlier versions goes with the former index.
        superseded = update(Document).where(Document.vector_store_id == store.id, Document.status == "superseded")
        await self._session.execute(superseded.values(status="replaced", usage_bytes=0))
        store.index_name, current.index_name = current.id, store.index
        for column in ("embedding_model", "embedding_dimension", "embedding_fingerprint"):
            setattr(store, column, getattr(current, column))
        return True

    async def _originals(self, shadow: VectorStore) -> dict[str, Document]:
        """Return the documents that have twins or are to have them; of the same bytes the one that did not fail."""
        query = select(Document).where(Document.vector_store_id == shadow.reindexes)
        found = await self._session.scalars(query.where(Document.status.in_(ACTIVE) | blameless()))
        best = {one.sha256: one for one in sorted(found, key=lambda one: (one.status != "failed", one.id))}
        return {document.id: document for document in best.values()}

    async def _documents(self, store_id: str) -> Sequence[Document]:
        query = select(Document).where(Document.vector_store_id == store_id).with_for_update()
        return (await self._session.scalars(query.execution_options(populate_existing=True))).all()

    async def _state(self, shadow: VectorStore) -> Reindexing:
        counts, chunks, refused = dict[str, int](), 0, dict[str, Document]()
        query = select(Document).where(Document.vector_store_id == shadow.id)
        for twin in await self._session.scalars(query.order_by(Document.id)):
            counts[twin.status] = counts.get(twin.status, 0) + 1
            chunks += twin.chunks_done
            if twin.status == "failed":
                refused[twin.chunks_name] = twin
        missed = select(Document.id).where(Document.id.in_(refused), Document.status == "completed")
        first = (await self._session.scalars(missed.order_by(Document.id))).first()
        error = f"{refused[first].filename}: {refused[first].error_message}" if first else None
        return Reindexing(shadow.embedding_model, counts, chunks, error)


def _complete(originals: Mapping[str, Document], twins: Sequence[Document]) -> bool:
    """Say whether the twins can stand for all that can be found now: alike, ended, and none failed or missing."""
    if any(original.status == "in_progress" for original in originals.values()):
        return False
    for twin in twins:
        original = originals.get(twin.chunks_name)
        if original is None or original.status not in ("completed", "failed"):
            return False
        if twin.status not in ("completed", "failed", "replaced") or twin.attributes != original.attributes:
            return False
    there = {twin.chunks_name for twin in twins if twin.status != "failed"}
    return all(original.id in there for original in originals.values() if original.status == "completed")


def _twin(original: Document, shadow: VectorStore) -> Document:
    copied = {column: getattr(original, column) for column in _COPIED}
    name = f"{original.id}.{shadow.id}"
    return Document(id=name, vector_store_id=shadow.id, status="in_progress", updated_at=now(), **copied)
