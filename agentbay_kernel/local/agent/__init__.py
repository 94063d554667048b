"""What runs beside a session, inside its sandbox: the standard library only.

main          starts it: identity, limits, the first worker
agent         answers the local runtime: shell, files, terminals, engines
workers       the children that run cells
files         the operations on files
terminals     pseudo-terminals
metrics       processor, memory and disk
process_tree  a session's processes: found, adopted, killed
limits        limits that the kernel keeps for each process
identity      the user id that cells run with
"""
