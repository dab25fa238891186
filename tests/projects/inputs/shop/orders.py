from sqlalchemy import Column, Integer, Table

from shop.base import metadata

orders = Table("orders", metadata, Column("id", Integer, primary_key=True))
