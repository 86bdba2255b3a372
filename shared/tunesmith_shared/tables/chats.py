"""Files, models, and sessions with their messages."""

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tunesmith_shared.tables.base import Base


class File(Base):
    """An upload or a result; its bytes are in the file store under the same id. `encoding` is what an upload of text
    said that it is in, if it did.
    """

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    filename: Mapped[str] = mapped_column(String(512))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    encoding: Mapped[str | None] = mapped_column(String(32))


class Model(Base):
    """A model that a person made: who owns it, and what it was made from. Models without a row belong to everyone."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    base_model: Mapped[str] = mapped_column(String(256))
    job_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int]


class Session(Base):
    """A conversation whose messages are kept."""

    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(256))
    created_at: Mapped[int]
    updated_at: Mapped[int]


class Message(Base):
    """One message of a session, in the order of `position`.

    `tokens` is what it takes in a prompt, from the counts that the model server gave; None when it gave none.
    """

    __tablename__ = "messages"
    __table_args__ = (UniqueConstraint("owner", "session_id", "position"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    session_id: Mapped[str] = mapped_column(String(128))
    position: Mapped[int]
    role: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(Text)
    tokens: Mapped[int | None]
    created_at: Mapped[int]
