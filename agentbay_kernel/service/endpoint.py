"""The service's address and the API key, from arguments, environment and the nearest `.env`.

Only the key and the region are read from `.env`, so that a downloaded directory can't send the key
elsewhere. Regions and their addresses are those of the AgentBay wire protocol.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from agentbay_kernel.errors import ConfigurationError
from agentbay_kernel.service.log import get_logger

KEY_VARIABLE = "AGENTBAY_API_KEY"
REGION_VARIABLE = "AGENTBAY_REGION_ID"
ENDPOINT_VARIABLE = "AGENTBAY_ENDPOINT"
DEFAULT_REGION = "cn-hangzhou"

_log = get_logger("endpoint")
_PRE = "pre-"
# A region is part of a host name: a looser rule would let a .env file choose the host.
_REGION = r"[a-z]{2}-[a-z]+(?:-[a-z0-9]+)*"
_KNOWN_HOST = re.compile(rf"(?:agentbay|wuyingai)(?:-pre)?\.{_REGION}\.aliyuncs\.com")


@dataclass(frozen=True)
class Endpoint:
    """The server that requests are sent to.

    Arguments:
        url: the address, with a scheme and no trailing slash.
        host: the name of the host.
        is_loopback: whether requests stay on this machine.
        is_known: whether the host is one of AgentBay's own.
        region_id: the region to send with requests.
    """

    url: str
    host: str
    is_loopback: bool
    is_known: bool
    region_id: str


@dataclass(frozen=True)
class Credentials:
    """The key and the endpoint that were found.

    Arguments:
        api_key: the key, or None.
        region_id: the region that was requested, or None.
        endpoint: the server that requests are sent to.
    """

    api_key: str | None = field(repr=False)
    region_id: str | None
    endpoint: Endpoint


def find_credentials(
    api_key: str | None = None,
    region_id: str | None = None,
    endpoint: str | None = None,
    *,
    start_folder: str | Path | None = None,
    env_file: str | Path | None = None,
) -> Credentials:
    """Find a key and an endpoint. A missing key is not an error here.

    Each comes from its argument, or from the environment (`AGENTBAY_API_KEY`,
    `AGENTBAY_REGION_ID`, `AGENTBAY_ENDPOINT`). Key and region can also come from the nearest
    `.env`. An endpoint always takes precedence over a region.

    Arguments:
        api_key: a key that is already known.
        region_id: a region, for example `cn-hangzhou`.
        endpoint: a host or an address.
        start_folder: the directory in which the search for `.env` starts, upwards; the working
            directory unless given.
        env_file: a file to read instead of the nearest `.env`; it must exist.

    Returns:
        The key and the endpoint.

    Raises:
        ConfigurationError: a value that was found is invalid.
    """
    file = _read_env_file(env_file, start_folder)
    found_key = api_key or os.environ.get(KEY_VARIABLE) or file.get(KEY_VARIABLE)
    region = region_id or os.environ.get(REGION_VARIABLE) or file.get(REGION_VARIABLE)
    address = endpoint or os.environ.get(ENDPOINT_VARIABLE)
    return Credentials(
        api_key=_checked_key(found_key),
        region_id=region or None,
        endpoint=parse_endpoint(address, region),
    )


def parse_endpoint(address: str | None = None, region_id: str | None = None) -> Endpoint:
    """Return the endpoint of an address, or of a region if there is no address.

    Arguments:
        address: a URL, or a host alone for https.
        region_id: the region, `cn-hangzhou` unless given.

    Raises:
        ConfigurationError: the address or the region is invalid, or the address is plain http to
            another machine.
    """
    region = (region_id or DEFAULT_REGION).strip().lower()
    bare_region = region.removeprefix(_PRE)
    if not re.fullmatch(_REGION, bare_region):
        raise ConfigurationError(
            f"{region_id!r} is not an AgentBay region. Set {REGION_VARIABLE} to one like "
            f"{DEFAULT_REGION} or ap-southeast-1."
        )
    if not (address and address.strip()):
        address = _host_of_region(region, bare_region)
    return _parse_address(address.strip(), bare_region)


def is_loopback_host(host: str) -> bool:
    """Return whether a host name or address stands for this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def place_of(url: str) -> str:
    """Return the name of a URL's host for messages, without the path, which may hold a secret."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = f"{host}:{parts.port}" if parts.port else host
    return f"the local runtime at {name}" if is_loopback_host(host) else name


def _host_of_region(region: str, bare_region: str) -> str:
    if region == "pre-ap-southeast-1":
        return "wuyingai-pre.ap-southeast-1.aliyuncs.com"
    service = "agentbay-pre" if region.startswith(_PRE) else "agentbay"
    return f"{service}.{bare_region}.aliyuncs.com"


def _parse_address(address: str, region_id: str) -> Endpoint:
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
        parts = urlsplit("")
    strange = parts.username is not None or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not host or strange or re.search(r"\s", address):
        # The message does not show the address, which may hold a password.
        raise ConfigurationError(
            f"The AgentBay endpoint is not an address. Set {ENDPOINT_VARIABLE} to a host, or to "
            "https://HOST[:PORT][/PATH] without user name, query and fragment."
        )
    loopback = is_loopback_host(host)
    if parts.scheme == "http" and not loopback:
        raise ConfigurationError(
            f"The AgentBay endpoint http://{host} would send the API key unencrypted. Use "
            "https://; plain http is for this machine only (http://127.0.0.1:PORT)."
        )
    return Endpoint(
        url=f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}",
        host=host,
        is_loopback=loopback,
        is_known=_KNOWN_HOST.fullmatch(host) is not None and port in (None, 443),
        region_id=region_id,
    )


def _checked_key(key: str | None) -> str | None:
    key = (key or "").strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(
            f"The AgentBay API key holds characters that no key has. Check {KEY_VARIABLE}: copy "
            "the key again from the AgentBay console."
        )
    return key


def _read_env_file(
    env_file: str | Path | None, start_folder: str | Path | None
) -> Mapping[str, str | None]:
    path = Path(env_file) if env_file is not None else _nearest_env_file(start_folder)
    if path is None:
        return {}
    try:
        # Not interpolated: a key is read literally.
        values = dotenv_values(path, interpolate=False) if path.is_file() else None
    except (OSError, UnicodeError) as error:
        _log.warning("The file %s could not be read: %s", path, type(error).__name__)
        values = None
    if values is None:
        if env_file is not None:
            raise ConfigurationError(f"The file {path} does not exist or can't be read.")
        return {}
    return {name: values.get(name) for name in (KEY_VARIABLE, REGION_VARIABLE)}


def _nearest_env_file(start_folder: str | Path | None) -> Path | None:
    try:
        start = Path(start_folder or Path.cwd()).resolve()
    except OSError:  # the working directory was removed
        return None
    for folder in (start, *start.parents):
        path = folder / ".env"
        try:
            if path.is_file():
                return path
        except OSError:
            continue
    return None
