"""A whole OpenStack 2026.2 on this machine: the real services, on the loopback interface.

There is no nova-compute in it: the compute hosts are the product's own.
"""
