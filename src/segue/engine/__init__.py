"""The training loop: phases, hand-overs, compiled steps, simulators, evaluation.  It imports no agent or task.

`loop.run` runs a list of `phase.Phase`s and yields `state.Record`s.
"""
