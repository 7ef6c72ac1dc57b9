"""What became of servers, announced on the message bus in Nova's own form."""
