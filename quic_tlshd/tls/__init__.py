"""The TLS 1.3 engine: sans-I/O.

Nothing in this package opens a socket or a file, reads a clock or writes a log; randomness, time and every decision
come in as parameters, and what the handshake wants done goes out as typed events. Start with ``server.py``.
"""
