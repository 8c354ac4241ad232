"""Sockets under an event loop: what the server and the client share.

Below this package nothing does I/O; above it, Trio decides when a turn runs.
"""
