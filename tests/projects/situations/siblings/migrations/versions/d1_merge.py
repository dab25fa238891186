"""Join both."""


revision = "d1"
down_revision = ("b1", "c1")


def upgrade():
    pass


def downgrade():
    pass
