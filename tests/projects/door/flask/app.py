"""A Flask application; its migrations run behind `flask db` alone."""

import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
url = os.environ["DATABASE_URL"]
app.config["SQLALCHEMY_DATABASE_URI"] = url.replace("postgresql:", "postgresql+psycopg:")
db = SQLAlchemy(app)
migrate = Migrate(app, db)


class User(db.Model):
    """A user."""

    id = db.Column(db.Integer, primary_key=True)
    email = db.Column(db.String(80), nullable=False)
