"""The local runtime: AgentBay's wire protocol on a loopback address, where code is really run.

It imports nothing of the service client, so that the official SDK checks both.
"""
