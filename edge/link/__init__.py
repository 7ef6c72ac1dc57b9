"""The link to the control plane: dial, streams, reconnect."""
