"""Notifications about servers on the message bus, in Nova's own form."""
