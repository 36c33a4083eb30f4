"""What a fair comparison needs and a sweep lacks, each with the lines to add to the grid."""

from mtlcluster.collect.verdict.contest import Contest
from mtlcluster.collect.verdict.front import ENOUGH
from mtlcluster.collect.verdict.words import names


def asked_for(contest: Contest) -> list[str]:
    """What a fair comparison needs and the sweep lacks, each with the lines to add to the grid."""
    rows, tasks = contest.rows.rows, [task.name for task in contest.tasks]
    found = []
    if not contest.rows.tuned:
        found.append("A search, the same for every method: add to the grid: tune: {trials: 12} and confirm: {seeds: 5}")
    if not any(row.plain_sum for row in rows):
        found.append("A tuned plain sum: add to the grid's methods: equal")
    lacking = [task for task in tasks if not any(row.single_task == task for row in rows)]
    if lacking:
        found.append(
            f"Tuned single-task baselines of {names(lacking)}: add to the grid's methods: {{schedule: single}}, and to "
            f"the grid: set: {{tasks: [{', '.join(tasks)}]}}"
        )
    statics = sum(max(1, len(row.tried)) for row in rows if row.static)
    if statics < ENOUGH:
        have = f" (it has {statics}, and a front takes {ENOUGH})" if statics else ""
        found.append(f"Static weights{have}: add to the grid's methods: {{weighting: {{name: static, draws: 12}}}}")
    return found
