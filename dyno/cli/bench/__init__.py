"""`dyno bench`: YCSB's core workloads against a running cluster.

`command` is what its user types and how it ends, `loading` makes the records, `loop` runs the operations and
counts, `report` says what came out, and `progress` shows what happens meanwhile, where somebody looks.
"""
