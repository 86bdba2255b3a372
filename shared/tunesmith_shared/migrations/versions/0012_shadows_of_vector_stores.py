"""shadows of vector stores."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:

    with op.batch_alter_table("vector_stores", schema=None) as batch_op:
        batch_op.add_column(sa.Column("index_name", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("reindexes", sa.String(length=64), nullable=True))
        batch_op.create_index(batch_op.f("ix_vector_stores_reindexes"), ["reindexes"], unique=True)


def downgrade() -> None:

    with op.batch_alter_table("vector_stores", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_vector_stores_reindexes"))
        batch_op.drop_column("reindexes")
        batch_op.drop_column("index_name")
