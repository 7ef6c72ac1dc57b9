"""The typed contract between the tiers; generated from the .proto files beside it."""
