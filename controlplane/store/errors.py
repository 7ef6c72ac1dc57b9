"""What can go wrong with a database, in the words of those who use the store."""


class StoreError(Exception):
    """A database did not do what was asked of it."""


class DatabaseUnavailableError(StoreError):
    """The server is away, starting, or out of connections: the same call may succeed later."""


class RowRefusedError(StoreError):
    """The database refuses the values themselves: repeating the call cannot help."""


class ServersLeftError(StoreError):
    """A compute host that is to go still has servers: it can go when they have ended."""


class SchemaError(StoreError):
    """The tables are not those of this version; the message says which command mends it."""
