"""Runtimes: our own and the hosts'. Each imports its own framework only, and only when it runs."""
