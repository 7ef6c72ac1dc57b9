"""Adopted virtual machines in Nova's databases, through Nova's own table models, in bulk.

``cells`` opens the databases; ``servers`` and ``removal`` write servers; ``compute_hosts`` writes
services and compute nodes; ``quotas`` and ``announced`` read.
"""
