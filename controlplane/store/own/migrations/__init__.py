"""Migrations of the own tables, by alembic."""
