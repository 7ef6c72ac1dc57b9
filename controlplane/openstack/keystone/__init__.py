"""Keystone: sessions with the users of a `nova.conf`, and limits where Nova keeps them there."""
