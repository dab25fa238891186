"""`python -m tests.incident`: build the broken database of the runbook in DATABASE_URL's."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.incident.project import INCIDENT, break_it, lay_down

with tempfile.TemporaryDirectory() as folder:
    lay_down(Path(folder), INCIDENT.parents[1])
    break_it(Path(folder), os.environ["DATABASE_URL"])
