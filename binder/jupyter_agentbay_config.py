"""Settings of the AgentBay kernels in a container. A variable `AGENTBAY_NAME` wins over each."""

c = get_config()  # noqa: F821 (Jupyter gives it)

# No account is needed; with a key, AGENTBAY_BACKEND=cloud uses the service.
c.AgentBaySettings.backend = "local"
# Where bubblewrap is not allowed to work, no cell runs.
c.AgentBaySettings.local_isolation = "required"
