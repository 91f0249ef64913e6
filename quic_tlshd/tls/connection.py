"""A connection over records after its handshake, RFC 8446 sections 4.6, 5.5 and 6.1.

Application data, the post-handshake messages and the end, for whoever goes on in user space: the tools and the tests.
The kernel's connections are its own after the handshake. No I/O, as in `record`.
"""

from __future__ import annotations

from collections.abc import Callable

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import HandshakeType
from quic_tlshd.tls.messages import KeyUpdate
from quic_tlshd.tls.reassembly import Reassembly
from quic_tlshd.tls.record import ContentType, RecordLayer


class Connection:
    """Goes on with the record layer of a complete handshake.

    take_message: given each message but a KeyUpdate, for the engine to take or to refuse.
    """

    def __init__(self, records: RecordLayer, take_message: Callable[[bytes], None]) -> None:
        self._records = records
        self._take_message = take_message
        self._messages = Reassembly()
        self._owes_key_update = False

    def receive(self, header: bytes, body: bytes) -> bytes:
        """The application data in a record, b"" if there is none. PeerAlertError for every alert: close_notify is the
        end of the peer's data, and we may go on sending; without it, the data was cut off (section 6.1)."""
        fragment = self._records.open(header, body)
        if fragment is None:
            return b""
        if fragment.content_type is ContentType.APPLICATION_DATA:
            return fragment.content
        self._messages.add(fragment.content)
        while (message := self._messages.next()) is not None:
            if message[0] == HandshakeType.KEY_UPDATE:
                self._receive_key_update(KeyUpdate.decode(message))
            else:
                self._take_message(message)
        return b""

    def send(self, data: bytes) -> bytes:
        """Records with application data. A KeyUpdate goes before them if the peer asked for one or the keys have
        protected as many records as they may (section 5.5)."""
        assert self._records.send is not None
        if not data:
            return b""
        update = self.update_keys() if self._records.send.is_worn else self.answer()
        return update + self._records.application_data(data)

    def answer(self) -> bytes:
        """The KeyUpdate that the peer has asked for, b"" if it hasn't. It may wait until there is data to send."""
        return self.update_keys() if self._owes_key_update else b""

    def update_keys(self, *, request: bool = False) -> bytes:
        """A KeyUpdate, behind which we send with new keys; `request`: the peer shall do so too."""
        self._owes_key_update = False
        record = self._records.handshake(KeyUpdate(request).encode())
        self._records.update_send()
        return record

    def alert(self, description: AlertDescription) -> bytes:
        """A record with an alert: close_notify when we have nothing more to send."""
        return self._records.alert(description)

    def _receive_key_update(self, key_update: KeyUpdate) -> None:
        """Answered before we send data again, but once only (section 4.6.3)."""
        if self._messages:
            reason = "more handshake data came behind a KeyUpdate, under the old keys"  # section 5.1
            raise PeerError(AlertDescription.UNEXPECTED_MESSAGE, reason)
        self._records.update_receive()
        self._owes_key_update |= key_update.update_requested
