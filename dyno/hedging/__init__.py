"""When to ask somebody else too, and how often at most: for nodes and clients alike, pure."""
