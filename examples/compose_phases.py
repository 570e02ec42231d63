"""Compose phases yourself: Cal-QL on a log, a frozen warm-up, then plain SAC on own experience only.

Run it as a script, or cell by cell in an editor that knows `# %%`.  It needs `pip install "segue[envs]"`; the
first run also makes the PointMaze dataset.  The sizes are for a look at the mechanics, not for good policies.
"""

# %% Sizes: a test makes them smaller
import os

import segue

SCALE = float(os.environ.get("SEGUE_EXAMPLE_SCALE", "1"))


def steps(n: int) -> int:
    """Return n, scaled, at least 2."""
    return max(2, int(n * SCALE))


# %% A task is a dataset, simulators and a score
task = segue.find_task("pointmaze-umaze")
data = task.dataset()
print(f"{task.name}: {len(data)} logged transitions, observations {task.spec.observation}, {task.spec.action} actions")

# The learner sees 10 times the raw reward; the task itself says what a step without success earns.
scaling = segue.Scaling(reward_scale=10.0, discount=0.99)

# %% An agent is its hyper-parameters and nothing else; what it learns lives in a slot
sac = segue.SAC(actor_hidden=(64, 64), critic_hidden=(64, 64), target_samples=4)
cal_ql = segue.CalQL(segue.CQL(sac, conservative_weight=0.1, samples=4, lagrange=False))

# %% A phase says who learns, on which rows, while the world moves how much
own = segue.Mix(0, 128)  # rows of the run's own experience alone
phases = (
    segue.Phase("offline", cal_ql, gradient_steps=steps(500), batch=segue.Mix(128), evaluate_every=steps(250)),
    # Nothing is learned here: the offline policy collects what the next phase will begin with.
    segue.Phase("warm-up", cal_ql, environment_steps=steps(300), utd_ratio=0),
    # The same slot, another learner: SAC goes on from the networks and optimisers that Cal-QL left.
    segue.Phase(
        "online", sac, environment_steps=steps(400), batch=own, init_from=segue.from_cql(), evaluate_every=steps(200)
    ),
)

# %% The loop is yours: records come out, nothing is written anywhere
seeds = (0, 1)
evaluator = segue.Evaluator(task, seeds, episodes=2)
ends = {}
for record in segue.run(phases, task, seeds, scaling):
    if record.evaluates:
        result = evaluator(record.slot)
        score = ", ".join(f"{x:.0f}" for x in result.score.mean(axis=1))
        print(
            f"{record.phase.name:8} step {record.phase_step:4}  environment steps {record.environment_step:4}  "
            f"updates {record.update:4}  scores of the seeds {score}"
        )
        if record.ends:
            ends[record.phase.name], _ = segue.handover(record.slot, data, evaluator.lived(record.slot, result))
evaluator.close()

# %% What a hand-over looks like from the critic's side, one number per seed
for name, found in ends.items():
    print(name, {key: value.round(2).tolist() for key, value in found.items()})
