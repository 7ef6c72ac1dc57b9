"""Servers that tests, demo and cloud run for themselves, all below .state/ of this checkout."""
