"""What to ask of a store to measure or to try it: YCSB's core workloads (Cooper, Silberstein, Tam,
Ramakrishnan, Sears: Benchmarking Cloud Serving Systems with YCSB, SoCC 2010).

`mixes` draws operations, `popularity` the keys that they are about, `payload` the values to write, and
`histogram` keeps how long they took. Chance is an injected Random and there is no clock, so that a benchmark
on sockets and a simulation on virtual time run the same operations from the same seed.
"""
