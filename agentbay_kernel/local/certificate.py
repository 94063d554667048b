"""A TLS certificate for one run, signed by an authority that is made for it and not kept."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from agentbay_kernel.errors import ConfigurationError

NAMES = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Certificate:
    """The authority's certificate, which clients trust, and the listener's with its key."""

    ca_file: Path
    chain_file: Path

    def context(self) -> ssl.SSLContext:
        """Return the listener's TLS context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file)
        return context


def make_certificate(folder: Path) -> Certificate:
    """Make an authority and a certificate for the loopback address.

    Raises:
        ConfigurationError: the package for it is not installed.
    """
    try:
        import trustme
    except ImportError:
        raise ConfigurationError(
            "--tls needs trustme, which is not installed: run `pip install trustme`."
        ) from None
    made = Certificate(folder / "ca.pem", folder / "chain.pem")
    authority = trustme.CA(organization_name="AgentBay local runtime")
    authority.cert_pem.write_to_path(made.ca_file)
    made.chain_file.touch(mode=0o600)
    issued = authority.issue_cert(*NAMES)
    issued.private_key_and_cert_chain_pem.write_to_path(made.chain_file)
    return made
