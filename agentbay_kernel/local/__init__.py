"""The local runtime: AgentBay's wire protocol on a loopback address, where code is really run.

It imports nothing of the service client, so that the official SDK checks both.

Who starts one, and with what:
own_runtime   a notebook's or a program's own runtime, in the daemon
daemon        one process with the runtimes of all programs of a user
serve         `jupyter agentbay serve`: a runtime by hand; `process` is what both share
settings      a runtime's settings, and its limits for sessions
runtime       the runtime itself: all of the following, connected

What clients send, from the socket to the answer:
listener      the HTTP server; `routes`, `websocket` and `transfer` are its handlers
actions       the control plane, with `context_actions`, `parsing`, `refusals`, `certificate`
tools         the tools of a session, with `file_tools`, `terminals`, `answers`
sessions      which sessions there are; `contexts`: the files that outlive them
behaviour     which variant of the service to imitate: `profile`, `faults`, `hiding`

What runs the code:
sandbox       a confinement with its agent and two engines
engine        one language: `python_engine`, `javascript_engine`, `node`; `worker` and `events`
isolation     chooses the `confinement`: `bubblewrap` (with `syscall_filter`, `cgroup`) or `plain`
agent/        the program in the sandbox; `agent_client` talks to it
memory_watch, priority, turns: no session takes what others need
completion_cache: Jedi's, made once
"""
