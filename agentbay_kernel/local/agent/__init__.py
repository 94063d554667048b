"""The agent of a session, which runs inside its sandbox: the standard library only.

main          starts it: identity, limits, the first worker
agent         serves the local runtime's calls: shell, files, terminals, workers
workers       the child processes that run cells
files         the file operations
terminals     pseudo-terminals
metrics       processor, memory and disk
process_tree  without a PID namespace: finds, adopts and kills the session's processes
limits        resource limits of each process
identity      the user ids of agent and cells
"""
