"""The Jupyter kernel: the part of a session that a front end sees. Start reading in `kernel.py`.

app            the process
kernel         AgentBayKernel: which request goes where
concurrent     requests that are handled while a cell runs
cell_run       one cell, from the request to the reply
publisher      messages to the front end, and their pace
introspection  completion, inspection and history
late_output    output that arrives after a cell has ended
debugger       the page's debugger, relayed to the sandbox
banner         the text that a console shows first
"""
