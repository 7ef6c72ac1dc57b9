"""Everything that speaks gRPC: edges, operators and, on a unix socket, the compute workers."""
