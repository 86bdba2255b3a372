"""positions and tokens of messages."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = """
UPDATE messages SET position = (
    SELECT COUNT(*) FROM messages AS earlier
    WHERE earlier.owner = messages.owner AND earlier.session_id = messages.session_id AND earlier.id < messages.id
)
"""


def upgrade() -> None:
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.add_column(sa.Column("position", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("tokens", sa.BigInteger(), nullable=True))
    op.execute(_NUMBER)
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.alter_column("position", existing_type=sa.BigInteger(), nullable=False)
        batch_op.drop_index("ix_messages_owner_session_id_id")
        batch_op.create_unique_constraint(
            batch_op.f("uq_messages_owner_session_id_position"), ["owner", "session_id", "position"]
        )


def downgrade() -> None:
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_messages_owner_session_id_position"), type_="unique")
        batch_op.create_index("ix_messages_owner_session_id_id", ["owner", "session_id", "id"])
        batch_op.drop_column("tokens")
        batch_op.drop_column("position")
