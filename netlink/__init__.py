"""The kernel's generic-netlink `handshake` family and the same messages over a Unix socket. Knows nothing of TLS."""
