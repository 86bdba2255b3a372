"""All tables. Every row that a person can name has an owner; queries for it name the owner in their WHERE.

Timestamps are seconds since 1970; columns of JSON hold what the public API shows under the same name.
"""

from tunesmith_shared.tables.access import ApiKey, IdempotentRequest
from tunesmith_shared.tables.base import Base, Json
from tunesmith_shared.tables.batches import Batch, BatchLine
from tunesmith_shared.tables.chats import File, Message, Model, Session
from tunesmith_shared.tables.documents import Document, FileBatch, VectorStore
from tunesmith_shared.tables.jobs import Checkpoint, Interruption, Job, JobEvent

__all__ = [
    "ApiKey",
    "Base",
    "Batch",
    "BatchLine",
    "Checkpoint",
    "Document",
    "File",
    "FileBatch",
    "IdempotentRequest",
    "Interruption",
    "Job",
    "JobEvent",
    "Json",
    "Message",
    "Model",
    "Session",
    "VectorStore",
]
