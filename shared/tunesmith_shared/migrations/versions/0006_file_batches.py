"""file batches."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "file_batches",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("vector_store_id", sa.String(length=64), nullable=False),
        sa.Column("document_ids", sa.JSON(), nullable=False),
        sa.Column("cancelled_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vector_store_id"], ["vector_stores.id"], name=op.f("fk_file_batches_vector_store_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file_batches")),
    )
    with op.batch_alter_table("file_batches", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_file_batches_owner"), ["owner"], unique=False)
        batch_op.create_index(batch_op.f("ix_file_batches_vector_store_id"), ["vector_store_id"], unique=False)


def downgrade() -> None:

    with op.batch_alter_table("file_batches", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_file_batches_vector_store_id"))
        batch_op.drop_index(batch_op.f("ix_file_batches_owner"))

    op.drop_table("file_batches")
