"""The commands of ``vsg-controlplane``."""
