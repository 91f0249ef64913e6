"""``python -m quic_tlshd.demo``: two services and two certificates on one UDP port, and a server without any key."""
