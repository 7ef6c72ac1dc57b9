"""Delivery of the inventory: replica, outbox of what is not acknowledged, reconciliation."""
