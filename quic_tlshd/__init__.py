"""quic-tlshd: TLS 1.3 handshakes in user space for in-kernel QUIC, kTLS and user-space QUIC transports."""

__version__ = "0.1.0"
