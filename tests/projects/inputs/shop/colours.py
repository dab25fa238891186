from sqlalchemy import Column, Table, Text

from shop.base import metadata

colours = Table("colours", metadata, Column("name", Text, primary_key=True))
