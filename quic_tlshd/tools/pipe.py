"""Standard input as a stream, whatever it is: a terminal, a pipe, a file."""

from __future__ import annotations

import asyncio
import sys


async def standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    except ValueError:  # a file, which is always ready
        reader.feed_data(sys.stdin.buffer.read())
        reader.feed_eof()
    return reader
