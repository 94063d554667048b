"""The agent of a session, which runs inside its sandbox: the standard library only.

main          starts it: identity, limits, the first worker
idle          waits until there is more to do than to run cells in that worker
agent         serves the local runtime's calls: shell, files, terminals, workers
workers       the child processes that run cells
files         the file operations
operations    runs one of them in a process of its own, as the cells' user
terminals     pseudo-terminals
metrics       processor, memory and disk
process_tree  without a PID namespace: finds, adopts and kills the session's processes
limits        resource limits of each process
identity      the user ids of agent and cells
"""
