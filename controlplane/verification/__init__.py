"""Verification that everything agrees: vCenter, the gateway database, Nova, Glance and placement.

Judges what the inventory pipeline wrote, and so shares nothing with it but `mapping`, which says
what a virtual machine should be: rows are read and compared here anew. Writes nothing.
"""
