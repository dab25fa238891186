import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table(
    "stays",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("room", sa.Integer, nullable=False),
    sa.Column("nights", sa.Integer, nullable=False),
    sa.Column("price", sa.Integer),
)
