"""Standard input as a stream, whatever it is: a terminal, a pipe, a file."""

from __future__ import annotations

import asyncio
import sys


async def standard_input() -> asyncio.StreamReader:
    reader, source = asyncio.StreamReader(), sys.stdin.buffer
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(source.fileno(), lambda: None)
    except PermissionError:  # a file, which is always ready
        reader.feed_data(source.read())
        reader.feed_eof()
        return reader
    loop.remove_reader(source.fileno())
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    return reader
