"""JupyterHub's configuration in the tests: two users on this machine, each with a key.

In: the variable `HUB_TEST`, JSON. Out: a hub on loopback without a proxy; where each user's server
listens is written to a file, because nothing but this test asks for it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jupyterhub.proxy import Proxy

given = json.loads(os.environ["HUB_TEST"])
c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821


class Direct(Proxy):  # type: ignore[misc]
    """Routes that are only written down."""

    should_start = False
    routes: dict[str, dict[str, Any]] = {}

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Note where a server listens."""
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}
        self._write()

    async def delete_route(self, routespec: str) -> None:
        """Forget where a server listened."""
        self.routes.pop(routespec, None)
        self._write()

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        """All that are known."""
        return dict(self.routes)

    def _write(self) -> None:
        targets = {name: route["target"] for name, route in self.routes.items()}
        path = Path(given["routes"])
        path.with_suffix(".new").write_text(json.dumps(targets))
        path.with_suffix(".new").replace(path)


c.JupyterHub.proxy_class = Direct
c.JupyterHub.spawner_class = "jupyterhub.spawner.SimpleLocalProcessSpawner"
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.db_url = "sqlite:///:memory:"
c.JupyterHub.hub_ip = c.JupyterHub.ip = "127.0.0.1"
c.JupyterHub.hub_port, c.JupyterHub.port = given["ports"]
c.JupyterHub.services = [{"name": "test", "api_token": given["token"]}]
c.JupyterHub.load_roles = [
    {"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "tokens"]}
]
c.Authenticator.allowed_users = set(given["users"])
c.SimpleLocalProcessSpawner.home_dir_template = given["homes"] + "/{username}"
c.Spawner.args = ["--allow-root"]
c.Spawner.environment = {
    # What an administrator writes into /etc/jupyter.
    "JUPYTER_CONFIG_PATH": given["policy"],
    "AGENTBAY_API_KEY": lambda spawner: given["users"][spawner.user.name]["key"],
    "AGENTBAY_ENDPOINT": lambda spawner: given["users"][spawner.user.name]["endpoint"],
}
