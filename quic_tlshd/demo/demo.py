"""The demo, step by step: certificates, the daemon, a server without keys, three visits, and where the keys are.

Everything happens in one temporary folder and on 127.0.0.1, takes some seconds, and leaves nothing behind. The exit
status is 0 if all went as it should, 1 with one line that says why if not, and 128 and the signal's number after one.
"""

from __future__ import annotations

import asyncio
import errno
import tempfile
import time
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from quic_tlshd.demo import client, interruption
from quic_tlshd.demo.certificates import Authority, Identity, fingerprint
from quic_tlshd.demo.client import Visit
from quic_tlshd.demo.evidence import open_files, search_memory
from quic_tlshd.demo.processes import DemoError, Programs

REFUSED = 0x178  # CRYPTO_ERROR with the alert no_application_protocol (RFC 9001 section 8.1)
SERVICES = {
    "h3": ("localhost", ec.SECP256R1()),
    "smb": ("files.localhost", ec.SECP384R1()),
}


class Demo:
    """One run of the demo."""

    def __init__(self, console: Console, stack: ExitStack) -> None:
        self.console = console
        self.authority = Authority("quic-tlshd demo root")
        self.identities = {name: self.authority.issue(host, curve) for name, (host, curve) in SERVICES.items()}
        self.programs = Programs(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quic-tlshd-demo-"))))
        stack.callback(self.programs.stop)
        self.port = 0

    def run(self) -> None:
        self.make_certificates()
        with self.console.status("Starting the daemon ..."):
            self.programs.start_daemon()
        with self.console.status("Starting the server ..."):
            self.port = self.programs.start_server()
        self.show_processes()
        asyncio.run(_interruptible(self.visit()))
        asyncio.run(_interruptible(self.be_refused()))
        self.show_log()
        self.look_for_keys()

    def make_certificates(self) -> None:
        self.step("Two services, each with a certificate and a key of its own")
        for name, identity in self.identities.items():
            self.programs.add_entry(name, SERVICES[name][0], identity)
            self.say(f"entry [bold]{name:4}[/]  {_certificate(identity)}")

    def show_processes(self) -> None:
        daemon, server = self.programs.daemon.pid, self.programs.server.pid
        self.step("The processes")
        self.say(f"daemon  pid {daemon}: has the keys; {self.programs.workers} does the handshakes")
        self.say(
            f"server  pid {server}: serves both on UDP 127.0.0.1 port {self.port}; it was given {self.programs.gift}"
        )
        if self.programs.caveat:
            self.say(f"[dim]{self.programs.caveat}[/]")

    async def visit(self) -> None:
        self.step("A client with its own TLS visits, and verifies what it is shown")
        trust, port = self.authority.certificate, self.port
        page = await client.fetch(port, trust, SERVICES["h3"][0])
        self.check_visit("h3", page, '<b id="entry">h3</b>')
        self.say(f"     GET / over HTTP/3: {len(page.answer)} bytes of HTML, which say that entry h3 served them")
        greeting = await client.greet(port, trust, SERVICES["smb"][0], "smb")
        self.check_visit("smb", greeting, "Entry smb served you")
        self.say(f"     it said: {escape(greeting.answer)}")

    def check_visit(self, name: str, visit: Visit, expected: str) -> None:
        if visit.certificate != self.identities[name].certificate:
            raise DemoError(f"ALPN {name} was served with the certificate {fingerprint(visit.certificate)}")
        if expected not in visit.answer:
            raise DemoError(f"ALPN {name} was answered with {visit.answer!r}")
        shown = _certificate(self.identities[name])
        self.good(f"ALPN [bold]{name:4}[/] {shown}; handshake {visit.seconds * 1000:.0f} ms")

    async def be_refused(self) -> None:
        self.step("A client asks for a protocol that nobody registered")
        end = await client.be_refused(self.port, self.authority.certificate, SERVICES["h3"][0], "gopher")
        if end.error_code != REFUSED:
            raise DemoError(f"ALPN gopher was refused with error {end.error_code:#x} {end.reason_phrase}")
        self.good(f"ALPN [bold]gopher[/] refused: CRYPTO_ERROR {end.error_code:#x}, {escape(end.reason_phrase)}")

    def show_log(self) -> None:
        line = self.programs.wait_for_log("gopher")
        self.say("     the daemon's log has one line about it:")
        self.say(f"[dim]{escape(line)}[/]")

    def look_for_keys(self) -> None:
        self.step("Where the private keys are")
        secrets = [identity.secret for identity in self.identities.values()]
        pid = self.programs.server.pid
        try:
            files = [name for name in open_files(pid) if name.endswith((".key", ".pem"))]
            found, seen = search_memory(pid, secrets)
        except OSError as error:
            self.say(f"this system does not let us look into the server process: {error.strerror}")
            return
        if files or found:
            raise DemoError(f"the server process has a key: {found} times in its memory, open files {files}")
        self.good(f"not in the server: {seen / 1e6:.0f} MB of its memory searched for both keys, no key file open")
        self.good(self.about_daemon(secrets))

    def about_daemon(self, secrets: list[bytes]) -> str:
        try:
            found, _ = search_memory(self.programs.daemon.pid, secrets)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM):
                raise DemoError(f"the daemon's memory can't be looked at: {error.strerror}") from None
            return "only in the daemon, which lets no process of the same user look into its memory"
        if not found:
            raise DemoError("the keys were not even found in the daemon: the search is no proof")
        return "in the daemon the same search finds them (root may look there)"

    def step(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]")

    def good(self, text: str) -> None:
        self.say(f"[green]ok[/]   {text}")

    def say(self, text: str) -> None:
        """Two blanks and the text. A terminal has a width: there it goes on in further lines, below where it began."""
        if not self.console.is_terminal:
            self.console.print(f"  {text}", soft_wrap=True)
            return
        whole = Text.from_markup(text)
        indent = len(whole.plain) - len(whole.plain.lstrip(" "))
        for number, line in enumerate(whole[indent:].wrap(self.console, max(20, self.console.width - indent - 4))):
            self.console.print(" " * (indent + (4 if number else 2)), line, sep="", soft_wrap=True)


def _certificate(identity: Identity) -> str:
    curve = identity.private_key.curve.name
    return f"certificate {identity.subject}, {curve}, SHA-256 {identity.fingerprint}:..."


async def _interruptible(visits: Coroutine[Any, Any, None]) -> None:
    """The visits, until a signal ends them."""
    # aioquic leaves futures whose exceptions nobody awaits; what matters is raised in `visits`.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    task = asyncio.create_task(visits)
    try:
        while not task.done():
            interruption.check()
            await asyncio.wait([task], timeout=interruption.STEP)
    finally:
        task.cancel()
    task.result()


def main() -> int:
    interruption.end_in_order()
    console = Console(highlight=False)
    began = time.monotonic()
    try:
        console.print("[bold]quic-tlshd[/]: two services on one UDP port, and no key in the server")
        failure = _failure(console)
        if failure is None:
            console.print(f"\n[green]All as it should be[/], after {time.monotonic() - began:.1f} s.")
            return 0
    except interruption.InterruptionError:
        with suppress(OSError):  # its terminal may be gone
            Console(stderr=True, highlight=False).print(interruption.NOTICE)
        return interruption.exit_status()
    Console(stderr=True, highlight=False).print(f"[red]The demo failed:[/] {escape(failure)}", soft_wrap=True)
    return 1


def _failure(console: Console) -> str | None:
    """Why the demo failed, None if it didn't. Everything that was started is ended when this returns or raises."""
    try:
        with ExitStack() as stack:
            Demo(console, stack).run()
            interruption.check()
    except interruption.InterruptionError:
        raise
    except TimeoutError:
        return f"something took too long ({client.TIMEOUT:.0f} s for one visit)"
    except Exception as error:  # noqa: BLE001  # whatever it is, a person gets one line about it
        interruption.check()  # the terminal that is gone, e.g.
        known = isinstance(error, DemoError | client.RefusedError)
        return f"{error}" if known else f"{type(error).__name__}: {error}"
    return None
