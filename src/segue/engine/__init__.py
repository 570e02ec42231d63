"""The one loop: phases, hand-overs, what is compiled, simulators, evaluation.  It knows no agent, bonus or task.

`loop.run` goes through a list of `phase.Phase`s and yields `state.Record`s.
"""
