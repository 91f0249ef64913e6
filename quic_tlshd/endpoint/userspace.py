"""A QUIC stack in another process, over a SOCK_SEQPACKET socket that carries what a kernel QUIC socket would.

Every packet is one message: ``u8 type, u8 level, u16 argument`` in network byte order, then the body.

========================= ======= ========= ================== ====================================================
message                   from    level     argument           body
========================= ======= ========= ================== ====================================================
SETTINGS                  QUIC    0         0                  settings, see below; must come first
CRYPTO                    both    of data   0                  handshake bytes, not empty (a part of a message will do)
SEND_SECRET               daemon  of secret IANA cipher suite  the traffic secret that protects what the stack sends
RECEIVE_SECRET            daemon  of secret IANA cipher suite  the same for what it receives
PEER_TRANSPORT_PARAMETERS daemon  0         0                  the peer's transport parameters (RFC 9001 section 8.2)
SELECTED_ALPN             daemon  0         0                  the negotiated protocol's name
ALERT                     both    0         TLS alert          from the daemon: fail the connection with CRYPTO_ERROR
                                                               0x100 + alert, the body is the reason phrase (UTF-8);
                                                               from QUIC: the peer closed with that alert
========================= ======= ========= ================== ====================================================

Levels are the kernel's: APP 0, INITIAL 1, HANDSHAKE 2, EARLY 3. The settings are netlink attributes (``Setting``).
The connection is established when both APP secrets have come. The stack ends a handshake by closing the socket.
"""
