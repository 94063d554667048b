"""The runtime with --tls: the official SDK trusts its certificate by file, on all routes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import requests

from tests.runtime import running_local_runtime

# The SDK reads SSL_CERT_FILE once for the process, so this one is a process of its own.
SCRIPT = """
import asyncio, os
from agentbay import AgentBay, AsyncAgentBay, CreateSessionParams

params = CreateSessionParams(image_id="code_latest")
session = AgentBay().create(params).session
assert session.link_url.startswith("https://") and session.ws_url.startswith("wss://")
print(session.code.run_code("6 * 7", "python").result)
print(session.code.run_code("6 * 7", "python", stream_beta=True).result)
assert session.delete().success

async def main():
    session = (await AsyncAgentBay().create(params)).session
    print((await session.code.run_code("6 * 7", "python")).result)
    print((await session.code.run_code("6 * 7", "python", stream_beta=True)).result)
    assert (await session.delete()).success

asyncio.run(main())
"""


def test_all_routes_over_tls() -> None:
    with running_local_runtime("--tls") as runtime:
        assert runtime.endpoint.startswith("https://127.0.0.1:")
        with pytest.raises(requests.exceptions.SSLError):
            requests.post(runtime.endpoint, timeout=30)
        env = {
            **os.environ,
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
            "SSL_CERT_FILE": runtime.announcement["ca_file"],
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["42"] * 4
