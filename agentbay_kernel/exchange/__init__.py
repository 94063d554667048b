"""Transfers values and files between this machine and the sandbox.

Values go by name, files by path. Each change on the way is reported in one line. Anything that
comes out of a sandbox is data: it is checked, and never run.

    exchange = Exchange(live.session, live.execution_of)
    notes = exchange.send({"df": df})
    fetched = exchange.fetch(["model_scores"])
    exchange.upload(Path("data.csv"))
    exchange.download("results/", Path("results"))
"""

from agentbay_kernel.exchange.exchange import Exchange
from agentbay_kernel.exchange.reports import Fetched, Note, Progress, Reporter, Transferred

__all__ = ["Exchange", "Fetched", "Note", "Progress", "Reporter", "Transferred"]
