"""The same nodes and sessions as in the field, on virtual time, over a simulated network, from one seed."""
