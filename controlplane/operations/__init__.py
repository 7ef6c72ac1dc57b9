"""The ledger: every operation that Nova asks of a vCenter, from request to settled outcome."""
