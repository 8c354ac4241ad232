"""The client's logic, pure: routing, retries, contexts, results. Its shells are in `dyno.client`."""
