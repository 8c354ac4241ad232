"""`dyno simulate`: whole clusters on virtual time, under faults, and judgement of what their users saw.

`command` is what its user types and how it ends, `workers` runs seeds on all cores, `report` says what came
out, and `progress` shows what happens meanwhile, where somebody looks.
"""
