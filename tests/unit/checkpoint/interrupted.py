"""Plans that fail under way, or tell which of their jobs are done."""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from quant.checkpoint.plan import Job, Plan
from quant.checkpoint.reading import Inputs
from quant.errors import QuantError

FINISHED = 2
"""Jobs that an interrupted run of these tests has done, of 4."""


def failing(plan: Plan, finished: int = FINISHED) -> Plan:
    """The same, but the job after so many fails."""

    def fail(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        raise QuantError("interrupted")

    jobs = list(plan.jobs)
    jobs[finished] = replace(jobs[finished], produce=fail)
    return replace(plan, jobs=tuple(jobs))


def counted(plan: Plan) -> tuple[Plan, list[str]]:
    """The same, and the names of the first output of every job that is done from now on."""
    done: list[str] = []

    def watched(job: Job) -> Job:
        def produce(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
            done.append(job.outputs[0].name)
            yield from job.produce(inputs)

        return replace(job, produce=produce)

    return replace(plan, jobs=tuple(map(watched, plan.jobs))), done
