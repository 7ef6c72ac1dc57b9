"""The only importer of pyVmomi: vCenter's session, inventory and operations as proto messages."""
