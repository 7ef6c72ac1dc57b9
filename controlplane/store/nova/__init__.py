"""Adopted virtual machines in Nova's databases, through Nova's own table models, in bulk.

``cells`` opens the databases. A batch of servers goes through ``servers`` (or ``removal``):
``cell_rows`` locks what there is, ``changes`` decides what differs, ``rows`` and ``primitives``
make the new values, ``api_rows`` and ``cell_rows`` write them. ``compute_hosts`` writes services
and compute nodes; ``readers`` and ``notification_data`` read.
"""
