"""What ``serve --standalone`` changes in the configuration: no server, no root, one directory."""

import dataclasses
from pathlib import Path

from controlplane.config.settings import STANDALONE_PORT, Settings

PROJECT = "standalone"
"""Stands for the Keystone project and user that a control plane tried alone does not have."""


def standalone_settings(settings: Settings) -> Settings:
    """Return the settings of a control plane tried alone. Raises ``ConfigurationError``."""
    directory = Path(settings.required("standalone", "directory")).absolute()
    port = settings.gateway.bind_port
    return dataclasses.replace(
        settings,
        gateway=dataclasses.replace(
            settings.gateway,
            bind_port=port if settings.given("gateway", "bind_port") else STANDALONE_PORT,
        ),
        database=dataclasses.replace(
            settings.database, connection=f"sqlite:///{directory}/own.sqlite"
        ),
        compute=dataclasses.replace(settings.compute, state_directory=str(directory)),
        adoption=dataclasses.replace(
            settings.adoption,
            default_project_id=settings.adoption.default_project_id or PROJECT,
            default_user_id=settings.adoption.default_user_id or PROJECT,
        ),
    )
