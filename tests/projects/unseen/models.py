"""What `alembic check` calls equal to the migrations, and is not; and what is equal indeed."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, INT4RANGE, ExcludeConstraint
from sqlalchemy.orm import declarative_base
from sqlalchemy.types import UserDefinedType

names = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=names)
Base = declarative_base(metadata=metadata)


class Vector(UserDefinedType):
    """A type of an extension."""

    cache_ok = True

    def get_col_spec(self):
        return "vector(3)"


# ---------------------------------------------------------------- alike
class User(Base):
    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("email", "team"), {"schema": "accounts"})
    id = Column(Integer, primary_key=True)
    email = Column(String, nullable=False)
    place = Column(Vector)
    team = Column(String(40), comment="who pays")
    mood = Column(Enum("sad", "glad", name="mood", schema="accounts"))
    made = Column(DateTime(timezone=True), server_default=func.now())


class Note(Base):
    __tablename__ = "notes"
    __table_args__ = (CheckConstraint("length(text) > 0", name="not_empty"),)
    id = Column(Integer, primary_key=True)
    author = Column(ForeignKey("accounts.users.id"), index=True)
    kind = Column(ENUM("short", "long", name="kind", create_type=False))
    text = Column(String)


# ---------------------------------------------------------------- not alike
class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint("amount > 0", name="positive"),
        CheckConstraint("state <> 'gone'", name="there"),
        ForeignKeyConstraint(["a", "b"], ["pairs.a", "pairs.b"], match="FULL"),
        ExcludeConstraint(("span", "&&"), using="gist", name="apart"),
        Index("ix_orders_state", "state", postgresql_where=text("state = 'open'")),
        Index("ix_orders_note", "note", postgresql_using="hash"),
        Index("ix_orders_day", "day", postgresql_include=["amount"]),
    )
    id = Column(Integer, Identity(start=1000, cache=20), primary_key=True)
    amount = Column(Integer, server_default="1")
    double = Column(Integer, Computed("amount * 2"))
    state = Column(String(255))
    note = Column(String(collation="C"))
    day = Column(Integer)
    span = Column(INT4RANGE)
    a = Column(Integer)
    b = Column(Integer)


pairs = Table(
    "pairs",
    metadata,
    Column("a", Integer, nullable=False),
    Column("b", Integer, nullable=False),
    PrimaryKeyConstraint("a", "b"),
    postgresql_with={"fillfactor": 70},
)
