"""Settings of hypothesis."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("quic-tlshd", deadline=None)  # a busy machine is no failure
settings.load_profile("quic-tlshd")
