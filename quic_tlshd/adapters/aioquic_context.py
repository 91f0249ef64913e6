"""What stands where aioquic expects its `aioquic.tls.Context`: the same surface, with the daemon behind it.

aioquic calls its TLS context synchronously: it gives CRYPTO data in and wants output, keys and the new state at once.
Here the peer's data only goes out to the daemon, and the daemon's messages come in later *through the same call*
(see `Connection._feed`), so that what aioquic does after a TLS step is aioquic's own code.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # it is documented and not re-exported by name

from netlink.handshake import Done
from quic_tlshd.endpoint.userspace_protocol import Message, MessageType
from quic_tlshd.tls.parameters import Level

EPOCHS = {Level.INITIAL: tls.Epoch.INITIAL, Level.HANDSHAKE: tls.Epoch.HANDSHAKE, Level.APP: tls.Epoch.ONE_RTT}
LEVELS = {epoch: level for level, epoch in EPOCHS.items()}
DIRECTIONS = {MessageType.SEND_SECRET: tls.Direction.ENCRYPT, MessageType.RECEIVE_SECRET: tls.Direction.DECRYPT}

HELLO_RANDOM = slice(6, 38)  # of a ClientHello or ServerHello: after the handshake header and legacy_version


class RemoteContext:
    """One connection's TLS state as far as aioquic looks at it.

    The upper half are the names that QuicConnection reads, writes and calls; the arguments are accepted and dropped,
    because what they decide (certificates, trust, cipher suites) is the daemon's to decide.
    """

    legacy_session_id = b""  # the daemon refuses any other over QUIC (RFC 9001 section 8.4)
    early_data_accepted = False
    session_resumed = False

    def __init__(self, *, is_client: bool, **_: Any) -> None:
        self.state = tls.State.CLIENT_EXPECT_SERVER_HELLO if is_client else tls.State.SERVER_EXPECT_CLIENT_HELLO
        self.handshake_extensions: list[tuple[int, bytes]] = []  # ours: the transport parameters
        self.received_extensions: list[tuple[int, bytes]] = []  # the peer's
        self.alpn_negotiated: str | None = None
        self.alpn_cb: Callable[[str | None], None] = lambda alpn: None
        self.update_traffic_key_cb: Callable[[tls.Direction, tls.Epoch, tls.CipherSuite, bytes], None]

        self.incoming: Message | Done | None = None  # the daemon's, while it is fed in; else the peer speaks
        self.peer_epoch = tls.Epoch.INITIAL  # of the CRYPTO data that the peer sends
        self.receivable = {tls.Epoch.INITIAL}
        self.forward: Callable[[Level, bytes], None] = lambda level, data: None
        self._is_client = is_client
        self._client_hello = b""
        self._app_secrets: dict[int, Message] = {}
        self._told_alpn = False

    @property
    def client_random(self) -> bytes:
        """For QuicConfiguration.secrets_log_file."""
        return self._client_hello[HELLO_RANDOM]

    @property
    def transport_parameters(self) -> bytes:
        """Our own, the body of the quic_transport_parameters extension."""
        return self.handshake_extensions[0][1]

    @property
    def established(self) -> bool:
        """Both APP secrets have come."""
        return len(self._app_secrets) == len(DIRECTIONS)

    def handle_message(self, data: bytes, output: dict[tls.Epoch, Buffer]) -> None:
        """Called by aioquic: once with nothing to start a client, then with CRYPTO data.

        QuicConnectionError (from aioquic's callbacks) if the peer's transport parameters are wrong.
        """
        if isinstance(self.incoming, Done):
            self._complete()
        elif self.incoming is not None:
            self._apply(self.incoming, output)
        elif data and not self._over:
            self._note_client_hello(data, from_client=not self._is_client)
            if self.state == tls.State.CLIENT_EXPECT_SERVER_HELLO:
                self.state = tls.State.CLIENT_EXPECT_ENCRYPTED_EXTENSIONS
            self.forward(LEVELS[self.peer_epoch], data)
        elif data and not self._is_client:
            raise tls.AlertUnexpectedMessage("no TLS message may follow a client's Finished")

    @property
    def _over(self) -> bool:
        return self.state in (tls.State.CLIENT_POST_HANDSHAKE, tls.State.SERVER_POST_HANDSHAKE)

    def _apply(self, message: Message, output: dict[tls.Epoch, Buffer]) -> None:
        """Types that are not known are a newer daemon's and can be ignored."""
        match message.type:
            case MessageType.CRYPTO:
                self._note_client_hello(message.body, from_client=self._is_client)
                output[EPOCHS[message.level]].push_bytes(message.body)
            case MessageType.SEND_SECRET | MessageType.RECEIVE_SECRET:
                if message.level == Level.APP:
                    self._app_secrets[message.type] = message
                if message.level != Level.APP or message.type == MessageType.SEND_SECRET:
                    self._install(message)
            case MessageType.PEER_TRANSPORT_PARAMETERS:
                self.received_extensions = [(tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS, message.body)]
                if self.alpn_negotiated is not None:
                    self._negotiated()
            case MessageType.SELECTED_ALPN:
                self.alpn_negotiated = message.body.decode("latin-1")
                if self.received_extensions:
                    self._negotiated()

    def _negotiated(self) -> None:
        """Let aioquic read the peer's transport parameters and know the protocol; which comes first is not said."""
        self._told_alpn = True
        self.alpn_cb(self.alpn_negotiated)

    def _complete(self) -> None:
        """DONE. Only now can the peer's application data be read (RFC 9001 section 5.7): who it is is known."""
        if not self._told_alpn:  # none was selected
            self._negotiated()
        self._install(self._app_secrets[MessageType.RECEIVE_SECRET])
        self.state = tls.State.CLIENT_POST_HANDSHAKE if self._is_client else tls.State.SERVER_POST_HANDSHAKE

    def _install(self, message: Message) -> None:
        epoch = EPOCHS[message.level]
        direction = DIRECTIONS[MessageType(message.type)]
        self.update_traffic_key_cb(direction, epoch, tls.CipherSuite(message.argument), message.body)
        if direction == tls.Direction.DECRYPT:
            self.receivable.add(epoch)

    def _note_client_hello(self, data: bytes, *, from_client: bool) -> None:
        if from_client and len(self._client_hello) < HELLO_RANDOM.stop:
            self._client_hello += data[: HELLO_RANDOM.stop]


TLS = SimpleNamespace(**{**vars(tls), "Context": RemoteContext})
"""The module aioquic.tls with our class in the place of its Context."""
