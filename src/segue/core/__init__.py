"""What everything stands on: types, options, replay, scaling, networks, optimisers.  Imports nothing of Segue.

`types` holds the protocols, `replay` the experience, `scaling` what a learner sees of it, `options` the names that a
user may set, `nets`, `encoders` and `optim` what agents are made of, `files` the one way in which a file is written,
`lazy` how names are imported when they are used.
"""
