"""Shells of the session: they own sockets and clock, and wake the callers."""
