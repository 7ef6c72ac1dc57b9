"""Glance's tables (glance/db/sqlalchemy/models.py) under short names."""

from typing import Any, cast

from glance.db.sqlalchemy import models
from sqlalchemy import Table

# SQLAlchemy cannot know it of a type of Glance's, and warns with every statement.
models.JSONEncodedDict.cache_ok = True


def _table(model: Any) -> Table:
    return cast(Table, model.__table__)


IMAGES = _table(models.Image)
PROPERTIES = _table(models.ImageProperty)
LOCATIONS = _table(models.ImageLocation)
MEMBERS = _table(models.ImageMember)
TAGS = _table(models.ImageTag)
