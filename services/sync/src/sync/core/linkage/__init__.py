"""Which records are the same person: normalising, blocking, Fellegi–Sunter weights, decisions, clusters, proposals.

The way of a record: `person.person_of` makes the form that is compared, `blocking.blocking_keys` the keys under which
candidates are found, `compare.vector` the level of agreement of each field, `decision.Judge` the verdict with its
explanation, `link.link` and `link.candidates` the pairs, `cluster.cluster` the groups, `proposal.propose_merge` what a
person or a policy is asked to do. Nothing here reads a clock, asks for chance, or keeps anything.
"""
