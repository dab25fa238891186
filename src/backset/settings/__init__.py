"""What a run is told: settings, and where the project keeps its Alembic configuration."""
