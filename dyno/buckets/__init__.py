"""Buckets with properties of their own, as facts: what they may be, and one node's table of them."""
