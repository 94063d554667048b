"""Values and files between the notebook's side and the sandbox.

In: values by name, or paths. Out: the same on the other side, and in a line each what changed on
the way. What comes out of a sandbox is data: it is checked, never run.

    exchange = Exchange(live.session, live.execution_of)
    notes = exchange.send({"df": df})
    fetched = exchange.fetch(["model_scores"])
    exchange.upload(Path("data.csv"))
    exchange.download("results/", Path("results"))
"""

from agentbay_kernel.exchange.exchange import Exchange
from agentbay_kernel.exchange.reports import Fetched, Note, Progress, Reporter, Transferred

__all__ = ["Exchange", "Fetched", "Note", "Progress", "Reporter", "Transferred"]
