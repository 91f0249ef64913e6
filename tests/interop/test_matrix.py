"""Every cell of the table: each peer, in both roles, in each scenario that it can do.

All cells of a peer that were selected run at once, a few at a time; the tests then say what became of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from quic_tlshd.request import Role
from tests.interop import ours
from tests.interop.ours import Files
from tests.interop.peer import Peer
from tests.interop.peers.aioquic_tls import Aioquic
from tests.interop.peers.browser import Chromium
from tests.interop.peers.curl import Curl
from tests.interop.peers.gnutls import GnuTls
from tests.interop.peers.golang import Go, GoQuic
from tests.interop.peers.node import Node
from tests.interop.peers.nss import Nss
from tests.interop.peers.openssl import OpenSsl
from tests.interop.table import FAILED, OK, SCENARIOS, Cell, Table

AT_ONCE = 4
CELL_TIMEOUT = 60.0
ALL: tuple[Peer, ...] = (OpenSsl(), Node(), GnuTls(), Nss(), Go(), GoQuic(), Aioquic(), Curl(), Chromium())
PEERS = {peer.name: peer for peer in ALL}
CELLS = [Cell(name, role, scenario) for name in PEERS for role in Role for scenario in SCENARIOS]

Results = dict[Cell, Exception | str | None]
"""None for what works, the error for what failed, the reason for what can't be."""


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Results]:
    """Give a peer's name, get the results of all its cells that were selected."""
    selected = {
        item.callspec.params["cell"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_cell
    }
    done: dict[str, Results] = {}

    def results_of(name: str) -> Results:
        if name not in done:
            files = Files(tmp_path_factory.mktemp("interop"))
            cells = [cell for cell in CELLS if cell in selected and cell.peer == name]
            PEERS[name].prepare(files)
            done[name] = asyncio.run(run_all(PEERS[name], cells, files))
        return done[name]

    return results_of


async def run_all(peer: Peer, cells: list[Cell], files: Files) -> Results:
    places = asyncio.Semaphore(AT_ONCE)

    async def run(cell: Cell) -> Exception | str | None:
        if reason := peer.cannot(cell.role, cell.scenario):
            return reason
        async with places:
            try:
                async with asyncio.timeout(CELL_TIMEOUT):
                    ours.check(cell.scenario, cell.role, await peer.run(cell.role, cell.scenario, files))
            except Exception as error:  # noqa: BLE001 -- the test of the cell raises it
                return error
        return None

    return dict(zip(cells, await asyncio.gather(*map(run, cells)), strict=True))


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cell(cell: Cell, results: Callable[[str], Results], interop_table: Table) -> None:
    if missing := PEERS[cell.peer].missing():
        interop_table.put(cell, missing)
        pytest.skip(missing)
    result = results(cell.peer)[cell]
    interop_table.put(cell, OK if result is None else result if isinstance(result, str) else FAILED)
    if isinstance(result, Exception):
        raise result
