"""Migrations of the gateway database, by alembic."""
