"""A node on Trio, sockets and a disk: the thin shell around `protocol.node.Node`."""
