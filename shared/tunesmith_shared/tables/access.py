"""Who may do what: API keys, and requests that are done once."""

from sqlalchemy import String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from tunesmith_shared.tables.base import Base, Json


class ApiKey(Base):
    """An API key: only the sha256 of the secret is kept; `prefix` is what listings show of it.

    `limits` holds what differs from the settings for this key.
    """

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(128))
    prefix: Mapped[str] = mapped_column(String(16))
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    limits: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    revoked_at: Mapped[int | None]


class IdempotentRequest(Base):
    """A creating request that carried an Idempotency-Key, and its answer once there is one (`status` is set then).

    `holder` is the instance of the gateway that serves or served it; `request_sha256` is known when it has been read.
    """

    __tablename__ = "idempotent_requests"
    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    request_sha256: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[int | None]
    content_type: Mapped[str | None] = mapped_column(String(128))
    body: Mapped[str | None] = mapped_column(Text)
    interrupted: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int] = mapped_column(index=True)
