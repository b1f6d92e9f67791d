"""The laboratory interface: framing however it is cut, write-then-acknowledge, TLS, draining, and the commands."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.cli_labs import labs
from tests.support.homes import leave, live_in
from tests.support.vaults import vault_in
from trialops.errors import TrialOpsError
from trialops.intake.hl7_ack import acknowledge, header_of
from trialops.intake.hl7_parse import Hl7Error
from trialops.intake.lab_inbox import LabInbox
from trialops.intake.mllp import (
    Endpoint,
    FrameError,
    LabServer,
    client_context,
    endpoint,
    frames,
    read_answer,
    send,
    server_context,
)
from trialops.stores.objects import open_store

ROOT = Path(__file__).resolve().parents[3]
BODY = "PID|1||S1\rOBR|1|P1|A1|PANEL|||20260301\rOBX|1|NM|1742-6^ALT^LN||5|U/L|||||F|||20260301\r"


def message(control: str, value: str = "5", sent: str = "20260302", more: str = "") -> bytes:
    head = rf"MSH|^~\&|LIS|LAB|T|1|{sent}||ORU^R01^ORU_R01|{control}|P|2.5.1{more}" + "\r"
    return (head + BODY.replace("||5|", f"||{value}|")).encode()


@pytest.fixture
def inbox(tmp_path: Path) -> LabInbox:
    return LabInbox(vault_in(tmp_path), open_store(str(tmp_path)))


@contextlib.asynccontextmanager
async def serving(inbox: LabInbox, **how: object) -> AsyncIterator[LabServer]:
    server = LabServer(inbox, Endpoint("127.0.0.1", 0), **how)  # type: ignore[arg-type]
    await server.start()
    try:
        yield server
    finally:
        await server.drain(5)


async def talk(port: int, *chunks: bytes, answers: int, pause: float = 0.0) -> list[str]:
    """Send chunks, and read so many acknowledgements."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for chunk in chunks:
        writer.write(chunk)
        await writer.drain()
        await asyncio.sleep(pause)
    found, incoming = [], frames(reader, idle=5)
    for _ in range(answers):
        found.append(read_answer(await anext(incoming)).code)
    writer.close()
    return found


def test_cut_anywhere_and_several_at_once(inbox: LabInbox) -> None:
    async def run() -> None:
        async with serving(inbox) as server:
            one = b"\x0b" + message("M1") + b"\x1c\r"
            assert await talk(server.port, *(one[i : i + 1] for i in range(len(one))), answers=1) == ["AA"]
            many = b"".join(b"\x0b" + message(f"N{i}") + b"\x1c\r\r\n" for i in range(5))
            assert await talk(server.port, many[:333], many[333:], answers=5, pause=0.01) == ["AA"] * 5
            assert (server.tally.stored, server.tally.connections) == (6, 2)

    asyncio.run(run())
    assert len(inbox.keys()) == 6


@given(st.lists(st.binary(max_size=50), max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_any_cut_gives_the_same_frames(bodies: list[bytes], data: st.DataObject) -> None:
    bodies = [b.replace(b"\x0b", b"").replace(b"\x1c\r", b"") for b in bodies]
    bodies = [b.rstrip(b"\x1c") for b in bodies]
    stream = b"".join(b"\x0b" + b + b"\x1c\r" for b in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))

    async def run() -> list[bytes]:
        reader = asyncio.StreamReader()
        for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            reader.feed_data(stream[start:stop])
        reader.feed_eof()
        return [frame async for frame in frames(reader)]

    assert asyncio.run(run()) == bodies


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"MSH|no frame", "bytes outside a frame"),
        (b"\x0bMSH|one\x0bMSH|two\x1c\r", "a frame begins inside a frame"),
        (b"\x0bMSH|cut", "the connection ended inside a message"),
        (b"\x0bMSH\x1c", "the connection ended inside a message"),
        (b"\x0b" + b"x" * 5000, "the message is too large"),
        (b"\x0bMSH\x1c\rtrailing", "bytes outside a frame"),
    ],
)
def test_streams_that_are_no_mllp(stream: bytes, reason: str) -> None:
    async def run() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(stream)
        reader.feed_eof()
        with pytest.raises(FrameError, match=reason):
            _ = [frame async for frame in frames(reader, most=4000)]

    asyncio.run(run())


def test_a_bad_stream_is_closed_with_a_reason_and_others_go_on(inbox: LabInbox) -> None:
    async def run() -> None:
        async with serving(inbox, most=4000, idle=0.2) as server:
            assert await talk(server.port, b"GET / HTTP/1.1\r\n\r\n", answers=1) == ["AE"]
            assert await talk(server.port, b"\x0b" + b"x" * 9000, answers=1) == ["AE"]
            assert await talk(server.port, b"\x0bMSH", answers=1) == ["AE"]  # and then silence
            assert await talk(server.port, b"\x0b" + message("M1") + b"\x1c\r", answers=1) == ["AA"]
            assert sorted(server.tally.broken) == [
                "bytes outside a frame", "nothing came for too long", "the message is too large",
            ]  # fmt: skip

    asyncio.run(run())


def test_acknowledged_only_when_stored_and_stored_once(inbox: LabInbox, tmp_path: Path) -> None:
    fail = [True]

    class Failing(LabInbox):
        def receive(self, data: bytes):  # type: ignore[no-untyped-def]
            if fail[0]:
                raise OSError("disk full")
            return super().receive(data)

    async def run() -> None:
        frame = b"\x0b" + message("M1") + b"\x1c\r"
        async with serving(Failing(inbox._vault, inbox._objects)) as server:
            assert await talk(server.port, frame, answers=1) == ["AE"]
            assert inbox.keys() == []
            fail[0] = False
            assert await talk(server.port, frame, frame, answers=2) == ["AA", "AA"]
            # Sent again later: the same message under another MSH-7.
            assert await talk(server.port, b"\x0b" + message("M1", sent="20260309") + b"\x1c\r", answers=1) == ["AA"]
            # Another message under the same control id.
            assert await talk(server.port, b"\x0b" + message("M1", value="9") + b"\x1c\r", answers=1) == ["AE"]
            assert (server.tally.stored, server.tally.known, server.tally.refused) == (1, 2, 1)

    asyncio.run(run())
    assert len(inbox.keys()) == 1 and [r["reason"] for r in inbox.refused()] == ["MESSAGE_ID_REUSED"]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"1742-6" not in path.read_bytes()
    assert next(inbox.messages()) == message("M1")


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        (message("M1"), "AA", ""),
        (message("M1").replace(b"ORU^R01", b"ADT^A01"), "AR", "200"),
        (message("M1").replace(b"ORU^R01", b"ORU^R30"), "AR", "201"),
        (message("M1").replace(b"|P|", b"|T|"), "AR", "202"),
        (message("M1").replace(b"2.5.1", b"2.9"), "AR", "203"),
        (message(""), "AE", "101"),
        (message("M1").replace(b"PID", b"ZID"), "AE", "100"),
        (message("M1") + message("M2"), "AE", "100"),
        (b"hello", "AE", "100"),
        (b"", "AE", "100"),
        (message("M1", more="|||AL|NE"), "CA", ""),
        (message("M1", more="|||ER|NE"), None, ""),
        (message("", more="|||ER|NE"), "CE", "101"),
        (message("", more="|||SU|NE"), None, ""),
        (message("M1", more="|||NE|NE"), None, ""),
    ],
)
def test_which_answer(inbox: LabInbox, body: bytes, code: str | None, error: str) -> None:
    receipt = inbox.receive(body)
    answer = acknowledge(header_of(inbox.answer_header(body)), receipt.errors, at="20260302")
    if code is None:
        assert answer is None
        return
    assert answer is not None
    assert read_answer(answer).code == code and f"|{error}^" in answer.decode() + "|^"
    assert answer.count(b"\r") == (3 if error else 2) and answer.endswith(b"\r")
    assert receipt.fate == ("refused" if error else "stored")


def test_an_answer_cannot_be_made_to_hold_another_segment() -> None:
    head = header_of(b"MSH|^~\\&|L\nMSA|AA|x|B|C|D|20260302||ORU^R01|M\n1|P|2.5.1")
    body = acknowledge(head, [Hl7Error("X", "text with | and ^\r and \\")], at="1")
    assert body is not None and body.count(b"\r") == 3 and b"\n" not in body


@pytest.mark.parametrize("text", ["", "host", ":1", "http://x:1", "x:99999", "x:y"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(TrialOpsError):
        endpoint(text)


def test_addresses() -> None:
    assert endpoint("mllps://lab.example:6661") == Endpoint("lab.example", 6661, True)
    assert endpoint("[::1]:2575").loopback and endpoint("localhost:1").loopback and not endpoint("10.0.0.1:1").loopback


def test_no_result_travels_in_the_clear(inbox: LabInbox) -> None:
    with pytest.raises(TrialOpsError, match="unencrypted"):
        LabServer(inbox, Endpoint("0.0.0.0", 0))
    with pytest.raises(TrialOpsError, match="unencrypted"):
        asyncio.run(send([message("M1")], Endpoint("lab.example", 1)))


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """An authority, a server's and a client's certificate, and a stranger's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path / "pki"
    folder.mkdir()
    now = dt.datetime.now(dt.UTC)

    def make(name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None):  # type: ignore[no-untyped-def]
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer or (subject, key)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(signer[0]).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )  # fmt: skip
        certificate = builder.sign(signer[1], hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(*form))
        return subject, key

    authority = make("authority", None)
    make("server", authority)
    make("client", authority)
    make("stranger", make("other", None))
    return folder


def test_tls_with_client_certificates(inbox: LabInbox, pki: Path) -> None:
    async def run() -> None:
        tls = server_context(pki / "server.pem", pki / "server.key", pki / "authority.pem")
        async with serving(inbox, tls=tls) as server:
            where = Endpoint("localhost", server.port, True)
            good = client_context(pki / "authority.pem", pki / "client.pem", pki / "client.key")
            answers = await send([message("M1"), message("M2")], where, tls=good)
            assert [(a.code, a.control) for a in answers] == [("AA", "M1"), ("AA", "M2")]
            for bad in (
                client_context(pki / "authority.pem"),
                client_context(pki / "authority.pem", pki / "stranger.pem", pki / "stranger.key"),
                client_context(pki / "other.pem", pki / "client.pem", pki / "client.key"),
            ):
                with pytest.raises(TrialOpsError, match="did not answer"):
                    await send([message("M3")], where, tls=bad, timeout=5)

    asyncio.run(run())
    assert len(inbox.keys()) == 2
    with pytest.raises(TrialOpsError, match="certificate"):
        server_context(pki / "server.pem", pki / "client.key")


def test_too_many_connections(inbox: LabInbox) -> None:
    async def run() -> None:
        async with serving(inbox, connections=1) as server:
            _, first = await asyncio.open_connection("127.0.0.1", server.port)
            first.write(b"\x0bMSH")
            await first.drain()
            await asyncio.sleep(0.05)
            reader, second = await asyncio.open_connection("127.0.0.1", server.port)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            assert server.tally.broken == {"too many connections": 1}
            first.close()
            second.close()

    asyncio.run(run())


def test_draining_finishes_what_is_being_stored(inbox: LabInbox) -> None:
    class Slow(LabInbox):
        def receive(self, data: bytes):  # type: ignore[no-untyped-def]
            import time

            time.sleep(0.3)
            return super().receive(data)

    async def run() -> list[str]:
        server = LabServer(Slow(inbox._vault, inbox._objects), Endpoint("127.0.0.1", 0))
        await server.start()
        port = server.port
        _, idle = await asyncio.open_connection("127.0.0.1", server.port)
        asking = asyncio.create_task(talk(server.port, b"\x0b" + message("M1") + b"\x1c\r", answers=1))
        await asyncio.sleep(0.15)
        await server.drain(5)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        idle.close()
        return await asking

    assert asyncio.run(run()) == ["AA"] and len(inbox.keys()) == 1


# -- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRIALOPS_", "CLINICAL_DB", "LAB_"))}
    yield {**kept, "TRIALOPS_HOME": str(tmp_path / "home"), "TRIALOPS_ACTOR": "tester", "PYTHONPATH": str(ROOT),
           "PYTHONUNBUFFERED": "1"}  # fmt: skip


def trialops(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_listen_send_and_stop(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "labs", "listen", "--at", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        port = re.search(r":(\d+)$", said.strip())
        assert port, said
        (tmp_path / "two.hl7").write_bytes(message("M1") + message("M2"))
        (tmp_path / "bad.hl7").write_bytes(message("M3").replace(b"|P|", b"|T|"))
        where = f"127.0.0.1:{port.group(1)}"
        sent = trialops(environment, "labs", "send", str(tmp_path / "two.hl7"), "--to", where)
        assert (sent.returncode, sent.stdout) == (0, "AA 2\n"), sent.stderr
        refused = trialops(environment, "labs", "send", str(tmp_path / "bad.hl7"), "--to", where)
        assert refused.returncode == 1 and refused.stdout.startswith("AR 1  MSH-11 is not P")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and '"stored": 2' in rest and '"refused": 1' in rest
    finally:
        process.kill()
    listed = trialops(environment, "labs", "inbox")
    assert "2 messages, 1 refused" in listed.stdout and "NOT_PRODUCTION" in listed.stdout


def test_commands_say_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_in(tmp_path / "home", monkeypatch)
    for arguments, text in (
        (("listen", "--at", "0.0.0.0:0"), "unencrypted"),
        (("listen", "--at", "127.0.0.1:0", "--client-authority", __file__), "TLS needs a certificate"),
        (("unmatched", "--identify"), "needs a reason"),
        (("match", "a" * 16, "S1", "--reason", "x"), "knows no such subject"),
    ):
        # Help options as the parent command hands them down: click keeps those it makes first.
        done = CliRunner().invoke(labs, arguments, help_option_names=["-h", "--help"])
        assert isinstance(done.exception, TrialOpsError) and text in str(done.exception), done.output
    leave()
