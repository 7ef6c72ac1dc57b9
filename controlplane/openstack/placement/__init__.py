"""Placement, by its API alone: resource providers, inventories, traits and allocations."""
