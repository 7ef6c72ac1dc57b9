"""Whether everything agrees: vCenter, the own tables, Nova, Glance and placement.

Judges what the inventory pipeline wrote, and so shares nothing with it but `mapping`, which says
what a virtual machine should be: rows are read and compared here anew. Writes nothing.
"""
