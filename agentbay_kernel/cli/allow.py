"""`jupyter agentbay allow`: which hosts the frames of this user may load from."""

from __future__ import annotations

from argparse import Namespace

from agentbay_kernel.config import load_settings
from agentbay_kernel.containment.hosts import allowed_hosts, change_hosts, hosts_file


def allow(options: Namespace) -> int:
    """Add hosts to the list, remove them from it, or show it."""
    if options.remove:
        change_hosts(remove=options.remove)
        print(f"No longer allowed: {', '.join(options.remove)}. Existing frames keep their access.")
    if options.hosts:
        before = allowed_hosts()
        added = [it for it in change_hosts(add=options.hosts) if it not in before]
        print(f"Allowed: {', '.join(added) or 'nothing new'}. Run the cell again.")
    if options.list or not (options.hosts or options.remove):
        for host in allowed_hosts():
            print(host)
        settings = load_settings()
        for host in settings.html_hosts:
            print(f"{host}  (by {settings.sources.get('html_hosts', 'html_hosts')})")
        if not allowed_hosts() and not settings.html_hosts:
            print(
                f"No host is allowed. Add one: jupyter agentbay allow HOST (list: {hosts_file()})"
            )
    return 0
