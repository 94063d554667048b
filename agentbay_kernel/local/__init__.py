"""The local runtime: AgentBay's wire protocol on a loopback address, really executing code.

It imports nothing of the service client: the official SDK is the referee of both.
"""
