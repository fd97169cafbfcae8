"""Alembic's folder: `env.py` runs the steps of `versions/` on the store's own connection."""
