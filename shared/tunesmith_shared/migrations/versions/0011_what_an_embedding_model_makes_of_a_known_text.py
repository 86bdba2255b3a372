"""what an embedding model makes of a known text."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:

    with op.batch_alter_table("vector_stores", schema=None) as batch_op:
        batch_op.add_column(sa.Column("embedding_fingerprint", sa.Text(), nullable=True))


def downgrade() -> None:

    with op.batch_alter_table("vector_stores", schema=None) as batch_op:
        batch_op.drop_column("embedding_fingerprint")
