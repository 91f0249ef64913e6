"""``python -m quic_tlshd.demo``; see quic_tlshd/demo/demo.py."""

from __future__ import annotations

import sys

from quic_tlshd.demo import interruption

if __name__ == "__main__":
    interruption.end_at_once()  # while the rest is loaded

try:
    from quic_tlshd.demo.demo import main
except ImportError as error:
    sys.exit(f"The demo can't start: {error}. It needs: pip install 'quic-tlshd[aioquic]'")

if __name__ == "__main__":
    sys.exit(main())
