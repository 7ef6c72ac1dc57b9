"""The gateway database: the control plane's own records, in a database of their own.

One module a subject: each has its rows as dataclasses and the statements on them. The tables are in
``schema`` and are made by ``migrations``; nothing of ours is ever added to Nova's or Glance's.
"""
