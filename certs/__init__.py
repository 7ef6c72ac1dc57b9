"""The customer's certificate authority, and what both tiers need to use its certificates."""
