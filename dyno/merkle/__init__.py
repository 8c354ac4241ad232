"""Trees of sums over what a replica holds, so that two replicas find out in few bytes where they differ.

`places` says where a record belongs in a tree and what it counts for; `tree` is one (partition, n). Sums, not
hashes of hashes: an inner level is the sum of the one below, whichever records came first, and whatever the
depth; so a record that changes costs two hashes and an addition, and trees of different depth can be
compared (docs/design/anti_entropy.md).
"""
