"""What a listener that speaks TLS needs, made from the PEM files of the configuration."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import NamedTuple

from klipper_router.config import Config
from klipper_router.gateway.settings import ForwardSection, GatewaySection

_CERTIFICATE = re.compile(rb"-----BEGIN ([A-Z0-9]+ )?CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----")


def contexts(config: Config) -> dict[str, ssl.SSLContext]:
    """By the title of the section that has a certificate. Raises ConfigError."""
    sections: dict[str, GatewaySection | ForwardSection] = {"gateway": config.gateway} if config.gateway else {}
    sections |= {f"forward {name}": section for name, section in config.forward.items()}
    return {
        title: _context(config, title, section.tls_certificate, section.tls_key)
        for title, section in sections.items()
        if section.tls_certificate
    }


def _context(config: Config, title: str, certificate: str, key: str | None) -> ssl.SSLContext:
    try:
        _check(certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(certificate, key, password=_no_password)
    except _Unusable as error:
        raise config.error(title, error.key, str(error)) from None
    except ssl.SSLError as error:
        if key and error.reason == "KEY_VALUES_MISMATCH":
            message = f"tls_key {key} is not the key of tls_certificate {certificate}"
            raise config.error(title, "tls_key", message) from None
        message = f"tls_certificate {certificate}: this cannot be read as a certificate and its key: {error}"
        raise config.error(title, "tls_certificate", message) from None
    return context


class _Unusable(Exception):
    """``key``: the option that is to be mended."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def _check(certificate: str, key: str | None) -> None:
    """What OpenSSL would tell as "PEM lib", for whatever it is. Raises _Unusable."""
    chain = _Pem.of("tls_certificate", certificate)
    alone = _Pem.of("tls_key", key) if key else chain
    if not chain.has_certificate and key and chain.has_key and alone.has_certificate:
        message = f"tls_certificate {certificate} holds a private key and tls_key {key} a certificate: exchange the two"
        raise _Unusable("tls_certificate", message)
    if not chain.has_certificate:
        raise _Unusable("tls_certificate", f"tls_certificate {certificate} holds no certificate in PEM format")
    if not alone.has_key and key:
        raise _Unusable("tls_key", f"tls_key {key} holds no private key in PEM format")
    if not alone.has_key:
        message = f"tls_certificate {certificate} holds no private key: add 'tls_key', the file that does"
        raise _Unusable("tls_certificate", message)


class _Pem(NamedTuple):
    has_certificate: bool
    has_key: bool

    @classmethod
    def of(cls, option: str, file: str) -> _Pem:
        """Raises _Unusable."""
        try:
            content = Path(file).read_bytes()
        except OSError as error:
            raise _Unusable(option, f"{option} {file}: {error.strerror}") from None
        return cls(bool(_CERTIFICATE.search(content)), bool(_KEY.search(content)))


def _no_password() -> str:
    raise _Unusable("tls_key", "tls_key: the key has a password; give one without, readable by the router only")
