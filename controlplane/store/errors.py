"""What can go wrong with a database, for those who use the store.

Only ``DatabaseUnavailableError`` is worth repeating. Every other ``StoreError`` comes again.
"""


class StoreError(Exception):
    """Base: a database did not do what was asked of it."""


class DatabaseUnavailableError(StoreError):
    """The server is away, starting, busy or out of connections: the same call may succeed later."""


class StatementRejectedError(StoreError):
    """The database rejects the statement, for example an unknown column or a missing privilege.

    Repeating cannot help: the schema or its grants do not fit this version.
    """


class RowRejectedError(StatementRejectedError):
    """The database rejects the values, for example one too long for its column, or a duplicate."""


class ComputeHostError(StoreError):
    """Nova's rows of a compute host do not allow what is asked; the message says what to do."""


class ServersLeftError(StoreError):
    """A compute host that is to go still has servers: it can go when they have ended."""


class SchemaError(StoreError):
    """The tables are not those of this version; the message says which command upgrades them."""
