"""Who holds what: keys hash to partitions, partitions prefer seats.

In: the cluster's id and partition count, the members' seats. Out: partition numbers and slots (`hashing`),
and the preference list of every partition (`table`), a pure function of the *set* of seats, so that all
nodes and clients which know the same members agree without asking. `scores` draws how much a partition likes
a seat, `shares` says how much each seat should and may hold, `matching` brings the two together.
"""
