"""TLS with a given certificate, and ports that are forwarded as they are."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
import trio

from klipper_router.cli import main
from klipper_router.errors import ConfigError
from test.gateway.rig import WITHIN_S, Echo, Toy, Wire, fields_of, free_port, running

FORWARD = """
[forward {listen}]
to: 127.0.0.1:{port}
[klippy main]
"""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost with its key in one file."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs the openssl command to make a certificate")
    file = tmp_path / "both.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += [
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        names,
        "-keyout",
        str(file),
        "-out",
        str(tmp_path / "c.pem"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + (tmp_path / "c.pem").read_text())
    return file


async def tls_client(port: int, certificate: Path) -> Wire:
    context = ssl.create_default_context(cafile=str(certificate))
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    return Wire(trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True))


async def test_https_is_the_same_gateway(certificate: Path, tmp_path: Path) -> None:
    async with Toy().running() as toy:
        text = f"[gateway]\nlisten: 127.0.0.1:0\ntls_certificate: {certificate}\n[klippy main]\nmoonraker: http://127.0.0.1:{toy.port}"
        async with running(tmp_path, text, Echo()) as rig:
            client = await tls_client(rig.port, certificate)
            async with client.stream:
                for _ in range(2):
                    await client.send(b"GET /printers/main/server/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert (await client.message())[1] == b'{"result":"ok"}'
                assert fields_of(toy.received).get("x-scheme") == "https"
                await client.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert b'"origin":"https://localhost"' in (await client.message())[1]
                assert await client.rest() == b""


async def test_a_client_that_speaks_no_tls_does_not_hold_up_the_others(certificate: Path, tmp_path: Path) -> None:
    text = f"[gateway]\nlisten: 127.0.0.1:0\ntls_certificate: {certificate}\n[klippy main]"
    async with running(tmp_path, text, Echo()) as rig, rig.client() as plain, rig.client():
        await plain.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not (await plain.rest()).startswith(b"HTTP")
        client = await tls_client(rig.port, certificate)
        async with client.stream:
            await client.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def test_an_upstream_may_speak_tls(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Toy().running() as toy:
        front = f"[forward 0]\nto: 127.0.0.1:{toy.port}\ntls_certificate: {certificate}\n[klippy main]"
        (tmp_path / "front").mkdir()
        async with running(tmp_path / "front", front) as tls:
            port = tls.ready.forwards[0].sock.getsockname()[1]
            text = f"[gateway]\nlisten: 127.0.0.1:0\n[klippy main]\nmoonraker: https://localhost:{port}"
            async with running(tmp_path, text) as rig:
                for _ in range(2):
                    assert (await rig.get("/printers/main/server/info"))[0] == 200
                assert len(toy.wires) == 1


@pytest.mark.parametrize("tls", [False, True])
async def test_a_forward_passes_everything_and_the_half_close(tls: bool, certificate: Path, tmp_path: Path) -> None:
    content = b"0123456789abcdef" * 65536

    async def answer_at_the_end(wire: Wire) -> None:
        got = await wire.exactly(len(content)) if tls else await wire.rest()
        await wire.send(got)

    async with Toy(answer_at_the_end).running() as toy:
        text = FORWARD.format(listen=0, port=toy.port)
        if tls:
            text = text.replace("[klippy", f"tls_certificate: {certificate}\n[klippy")
        async with running(tmp_path, text) as rig:
            port = rig.ready.forwards[0].sock.getsockname()[1]
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            client = await tls_client(port, certificate) if tls else Wire(stream)
            async with stream, client.stream:
                await client.send(content)
                if not tls:
                    await stream.send_eof()
                with trio.fail_after(WITHIN_S):
                    assert await client.exactly(len(content)) == content
                    assert await client.rest() == b""


async def test_a_forward_to_nobody_closes_its_client(tmp_path: Path) -> None:
    async with running(tmp_path, FORWARD.format(listen=0, port=1)) as rig:
        port = rig.ready.forwards[0].sock.getsockname()[1]
        async with rig.client(port) as client:
            assert await client.rest() == b""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[forward 0]\nto: 127.0.0.1:1\ntls_certificate: {tmp}/none.pem\n", r"cfg:3: \[forward 0\] tls_certificate"),
        ("[gateway]\nlisten: 192.0.2.1:0\n", r"router\.cfg:2: \[gateway\] listen 192.0.2.1:0: this machine has no"),
        (
            "[forward 0]\nto: 127.0.0.1:1\nlisten: 192.0.2.1\n",
            r"cfg:3: \[forward 0\] listen 192.0.2.1:0: this machine has no",
        ),
        ("[gateway]\nlisten: nobody.invalid:0\n", r"router\.cfg:2: \[gateway\] listen nobody.invalid:0: "),
        (
            "[gateway]\nlisten: 127.0.0.1:0\napi_key_file: /dev/null/x\n",
            r"router\.cfg:3: \[gateway\] api_key_file /dev/null/x: Not a directory",
        ),
    ],
)
async def test_what_cannot_be_had_is_told_before_anything_starts(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=expected):
        async with running(tmp_path, text.replace("{tmp}", str(tmp_path)) + "[klippy main]"):
            pass


async def test_the_log_names_every_address_that_is_listened_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, forwarded = free_port(), free_port()
    text = f"""
        [gateway]
        listen: 127.0.0.1:0, 127.0.0.2:0
        [klippy main]
        moonraker: none
        origin: 127.0.0.1:{own}
        [forward {forwarded}]
        to: 127.0.0.1:1
        """
    with caplog.at_level("INFO", "klipper_router.gateway"):
        async with running(tmp_path, text):
            pass
    assert f"the gateway forwards 127.0.0.1:{forwarded} to 127.0.0.1:1" in caplog.messages
    listening = f"http://127.0.0.1:0, http://127.0.0.2:0, http://127.0.0.1:{own} (main)"
    assert f"the gateway serves on {listening}" in caplog.messages


def pieces(certificate: Path) -> tuple[Path, Path]:
    """The certificate and the key in files of their own."""
    key, mark, chain = certificate.read_text().partition("-----BEGIN CERTIFICATE-----")
    alone, of_it = certificate.with_name("chain.pem"), certificate.with_name("key.pem")
    alone.write_text(mark + chain)
    of_it.write_text(key)
    return alone, of_it


def another_key(folder: Path) -> Path:
    file = folder / "other.pem"
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.mark.parametrize(
    ("certificate_file", "key_file", "line", "expected"),
    [
        ("none.pem", "", 2, "tls_certificate {tmp}/none.pem: No such file or directory"),
        ("chain.pem", "none.pem", 3, "tls_key {tmp}/none.pem: No such file or directory"),
        ("chain.pem", "", 2, "tls_certificate {tmp}/chain.pem holds no private key: add 'tls_key', the file that does"),
        ("router.cfg", "key.pem", 2, "tls_certificate {tmp}/router.cfg holds no certificate in PEM format"),
        ("chain.pem", "router.cfg", 3, "tls_key {tmp}/router.cfg holds no private key in PEM format"),
        ("chain.pem", "other.pem", 3, "tls_key {tmp}/other.pem is not the key of tls_certificate {tmp}/chain.pem"),
        (
            "key.pem",
            "chain.pem",
            2,
            "tls_certificate {tmp}/key.pem holds a private key and tls_key {tmp}/chain.pem a certificate: exchange the"
            " two",
        ),
    ],
)
def test_a_certificate_that_cannot_be_used_is_told_by_check_and_at_the_start(
    certificate_file: str,
    key_file: str,
    line: int,
    expected: str,
    certificate: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pieces(certificate)
    another_key(tmp_path)
    file = tmp_path / "router.cfg"
    key = f"tls_key: {key_file}\n" if key_file else ""
    file.write_text(f"[gateway]\ntls_certificate: {certificate_file}\n{key}[klippy main]\nsock: main.sock\n")
    for command in ("check", "run"):
        assert main([command, "-c", str(file)]) == 2
        message = expected.replace("{tmp}", str(tmp_path))
        assert capsys.readouterr() == ("", f"klipper-router: {file}:{line}: [gateway] {message}\n")


def test_a_key_with_a_password_is_told(certificate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain, key = pieces(certificate)
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", str(key), "-aes128", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    file = tmp_path / "router.cfg"
    text = f"[forward 9443]\nto: 127.0.0.1:1\ntls_certificate: {chain}\ntls_key: {locked}\n"
    file.write_text(f"{text}[klippy main]\nsock: main.sock\n")
    assert main(["check", "-c", str(file)]) == 2
    assert capsys.readouterr().err.startswith(
        f"klipper-router: {file}:4: [forward 9443] tls_key: the key has a password"
    )


def test_check_is_content_with_a_certificate_and_its_key(
    certificate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, key = pieces(certificate)
    file = tmp_path / "router.cfg"
    for options in (f"tls_certificate: {certificate}", f"tls_certificate: {chain}\ntls_key: {key}"):
        file.write_text(f"[gateway]\n{options}\n[klippy main]\nsock: main.sock\n")
        assert main(["check", "-c", str(file)]) == 0, capsys.readouterr().err


def test_check_reads_the_api_key_and_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "router.cfg"
    file.write_text("[gateway]\ndata: data\n[klippy main]\nsock: main.sock\n")
    assert main(["check", "-c", str(file)]) == 0
    assert list(tmp_path.iterdir()) == [file]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/api_key").write_text("é")
    capsys.readouterr()
    assert main(["check", "-c", str(file)]) == 2
    message = f"{file}:2: [gateway] data {tmp_path}/data/api_key holds no API key: remove it, and one is made"
    assert capsys.readouterr().err == f"klipper-router: {message}\n"


async def test_an_address_in_use_is_told_and_the_others_are_free_again(tmp_path: Path) -> None:
    async with running(tmp_path, "[gateway]\nlisten: 127.0.0.1:0\n[klippy main]") as rig:
        with pytest.raises(ConfigError, match=rf"\[gateway\] listen 127.0.0.1:{rig.port}: Address already in use"):
            async with running(tmp_path, f"[gateway]\nlisten: 127.0.0.1:0, 127.0.0.1:{rig.port}\n[klippy main]"):
                pass
