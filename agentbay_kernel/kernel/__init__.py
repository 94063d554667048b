"""The Jupyter kernel: what a front end sees of a session. Start reading in `kernel.py`.

app            the process
kernel         AgentBayKernel: which request goes where
concurrent     requests that are answered while a cell runs
cell_run       one cell, from the request to the reply
publisher      what is published to the front end, and how fast
introspection  completion, inspection and history
late_output    what arrives after a cell has ended
banner         the text that a console shows first
"""
