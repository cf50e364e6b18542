"""Fixed paths: graphs of nodes that do a job without an agent that decides what comes next."""
