"""Messages are the same however their bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import HandshakeType
from quic_tlshd.tls.reassembly import MAX_MESSAGE, Reassembly, message_name


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 60), max_size=10))
def test_any_portions(bodies: list[bytes], cuts: list[int]) -> None:
    messages = [b"\x08" + len(body).to_bytes(3, "big") + body for body in bodies]
    stream, at, got, reassembly = b"".join(messages), 0, [], Reassembly()
    for cut in (*cuts, len(stream)):
        reassembly.add(stream[at : at + cut])
        at += cut
        while (message := reassembly.next()) is not None:
            got.append(message)
    assert got == messages
    assert len(reassembly) == 0


def test_a_message_that_will_be_too_long_is_not_waited_for() -> None:
    reassembly = Reassembly()
    reassembly.add(b"\x08" + MAX_MESSAGE.to_bytes(3, "big"))
    assert reassembly.next() is None
    reassembly = Reassembly()
    reassembly.add(b"\x63" + (MAX_MESSAGE + 1).to_bytes(3, "big"))
    with pytest.raises(PeerError, match="a message type 99 of 32769 bytes") as refused:
        reassembly.next()
    assert refused.value.alert is AlertDescription.DECODE_ERROR


def test_names() -> None:
    assert message_name(HandshakeType.KEY_UPDATE) == "key_update"
