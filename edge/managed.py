"""The site's present list of what is managed; it can be replaced without a restart."""

from edge.config import ManagedSettings


class ManagedScope:
    """The present ``[managed]`` of the configuration. Implements ``edge.interfaces.Managed``.

    Safe for threads: each answer comes from one list.
    """

    def __init__(self, settings: ManagedSettings) -> None:
        self._settings = settings
        self._read_only_edition = 0

    def replace(self, settings: ManagedSettings) -> bool:
        """Replace the list; True if it differs."""
        before, self._settings = self._settings, settings
        if _read_only(before) != _read_only(settings):
            self._read_only_edition += 1
        return before != settings

    @property
    def read_only_edition(self) -> int:
        """Grows with each list that differs in what is read only."""
        return self._read_only_edition

    @property
    def read_only_folders(self) -> tuple[str, ...]:
        """As in ``ManagedSettings``."""
        return self._settings.read_only_folders

    def manages_cluster(self, name: str) -> bool:
        """As in ``ManagedSettings``."""
        return self._settings.manages_cluster(name)

    def name_is_read_only(self, name: str) -> bool:
        """As in ``ManagedSettings``."""
        return self._settings.name_is_read_only(name)

    def folder_is_read_only(self, path: str) -> bool:
        """As in ``ManagedSettings``."""
        return self._settings.folder_is_read_only(path)


def _read_only(settings: ManagedSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return settings.read_only_names, settings.read_only_folders
