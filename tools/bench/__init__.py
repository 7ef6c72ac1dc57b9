"""`make bench`: figures with their peers from the same run."""
