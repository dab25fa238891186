from sqlalchemy import Column, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.orm import declarative_base

names = {"uq": "uq_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"}
Base = declarative_base(metadata=MetaData(naming_convention=names))
Other = declarative_base(metadata=MetaData(naming_convention=names))


class User(Base):
    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("email"),)
    id = Column(Integer, primary_key=True)
    email = Column(String(320))


class Note(Other):
    __tablename__ = "notes"
    id = Column(Integer, primary_key=True, unique=True)  # the server makes the key alone
    text = Column(String(100))
