"""The processes of one run. `accelerate launch` and `torchrun` start several of a program and tell each, by environment
variables, which one it is; alone, there is one and nothing here does anything.

Each process takes its share of the work, consecutive pieces of it, and all get the results of all, in the order of the
pieces. What is exchanged are results per token, not sums: the sum of partial sums depends in its last bits on where it
was cut, and a bootstrap needs the tokens anyway. Pieces are whole batches, for a float model's logits depend on the
shape of the call. So with as many threads, every figure equals that of a single process to the last bit. It costs 17
bytes a token and no time to speak of.

The processes talk over gloo, on CPUs and GPUs alike, since what they exchange is on the CPU. They meet at the end of a
piece of work only: one that fails is heard there, and then all fail with its message. One that dies is heard at once.
Waiting takes no CPU time.

Each process loads the whole model. One that is larger than a GPU is spread over several by a single process (`auto`),
which is refused here, as is accelerate's own way of sharding models: the rest of a run would measure a part of one.
"""

import atexit
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from quant.errors import QuantError

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long one waits for another: gloo's own half an hour is less than a large model's generation may take to time."""
LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
)
"""Rank, size, local rank, local size, as torchrun names them, and as the MPIs do that accelerate starts on CPUs."""
SHARDED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
"""Set by accelerate where each process is to load a part of a model only."""


@dataclass(frozen=True)
class Processes:
    """Which process of how many this is.

    Attributes:
        rank: 0 to size - 1; 0 is the main one, which times and tells.
        local_rank, local_size: the same among the processes of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the main process."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of `count` pieces of work are this process's: consecutive, none where there are fewer than processes.

        Shares of all processes, in order of rank, make up range(count); they differ in length by one at most.
        """
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` in every process, and go on when it is done in all. Returns what it returned in this one.

        Raises:
            QuantError: `work` raised one in some process, the message is that of the first; RuntimeError: it raised
                something else in another process. What it raised here, if not a QuantError.
        """
        if self.size == 1:
            return work()
        failure: Exception | None = None
        try:
            value = work()
        except Exception as error:
            failure = error
        outcome = None if failure is None else (isinstance(failure, QuantError), _told(failure))
        told = self._exchange("outcomes", outcome)
        if failure is not None and not isinstance(failure, QuantError):
            raise failure
        for rank, message in enumerate(told):
            if message is not None and not message[0]:
                raise RuntimeError(f"process {rank} of {self.size} failed: {message[1]}") from failure
        for message in told:
            if message is not None:
                raise QuantError(message[1]) from failure
        return value

    def gather(self, work: Callable[[], T]) -> list[T]:
        """What `work` returns in each process, in order of rank: to all of them. Raises as `together`."""
        value = self.together(work)
        return [value] if self.size == 1 else self._exchange("results", value)

    def from_main(self, work: Callable[[], T]) -> T:
        """What `work` returns in the main process, to all; the others wait. Raises as `together`."""
        return self.gather(lambda: work() if self.main else None)[0]  # type: ignore[return-value]

    def end(self, code: int) -> int:
        """The highest of the processes' exit codes, once all are at their end: a launcher stops all when one fails, and
        the main one has to tell why before that. Where one has died, the code is this one's.
        """
        try:
            return code if self.size == 1 else max(self._exchange("end", code))
        except RuntimeError:
            return code

    def leave(self, code: int) -> None:
        """Of several processes, end this one with `code`; alone, do nothing.

        What was registered to run at the end runs, and then the process is gone: torch and the interpreter are not
        taken down piece by piece. A thread of gloo's may still hold what the last exchange used, and one that asks for
        an interpreter that is ending aborts the process (SIGABRT, one launch in hundreds on a busy machine;
        https://github.com/pytorch/pytorch/pull/179291), after all work was done, and with it the whole launch.
        """
        if self.size > 1:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _exchange(self, step: str, value: Any) -> list[Any]:
        """The `value` of each process, in order of rank, if all are at the same `step`."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, (step, value))
        for rank, (other, _) in enumerate(values):
            if other != step:
                raise RuntimeError(
                    f"processes are out of step: {rank} of {self.size} is at {other!r}, {self.rank} at {step!r}"
                )
        return [value for _, value in values]

    def device(self, device: str) -> str:
        """The device of this process where the run's is `device`: each has its own GPU of "cuda". That is the first one
        where a launcher lets each process see one only, as SLURM does.

        Raises:
            QuantError: several processes, and "auto" or one GPU by number, or one GPU for several of them.
        """
        if self.size == 1 or device == "cpu":
            return device
        if device == "cuda":
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            if not re.fullmatch(r"[^,]+", visible):
                return f"cuda:{self.local_rank}"
            seen = self._exchange("device", (platform.node(), visible))
            if seen.count((platform.node(), visible)) > 1:
                raise QuantError(
                    f"CUDA_VISIBLE_DEVICES={visible} lets several of {self.size} processes see the same one GPU, and "
                    "each needs one of its own: unset it, or start one process"
                )
            return "cuda:0"
        remedy = "start one process, without accelerate launch" if device == "auto" else "use --device cuda or cpu"
        raise QuantError(f"--device {device} is for one process, and there are {self.size}: {remedy}")


ALONE = Processes()
"""A single process, which has nobody to wait for."""


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, QuantError) else f"{type(error).__name__}: {error}"


@contextmanager
def joined() -> Iterator[Processes]:
    """This process among those that it was started with, connected with them inside the block.

    Raises:
        QuantError: a launcher has told only a part of where this process is.
    """
    place = _place()
    if place.size == 1:
        yield place
        return
    dist.init_process_group("gloo", rank=place.rank, world_size=place.size, timeout=PATIENCE)
    try:
        yield place
    finally:
        dist.destroy_process_group()


def _place() -> Processes:
    """Where a launcher says that this process is. A size without an address to meet at is of a program that runs
    several times, not together: one of an MPI that accelerate has not started, say.

    Raises:
        QuantError: one of the four is missing or no number. Nothing stands in for it: processes that all take
            themselves for the first of their machine share its first GPU.
    """
    for names in LAUNCHERS:
        if os.environ.get(names[1], "1") != "1" and "MASTER_ADDR" in os.environ:
            found = {name: os.environ.get(name, "") for name in names}
            wrong = [name for name, value in found.items() if not value.isdecimal()]
            if wrong:
                told = ", ".join(f"{name}={value!r}" for name, value in found.items())
                raise QuantError(
                    f"{wrong[0]} is no number, and the launcher of several processes has to set all of {told}: start "
                    f"them with accelerate launch or torchrun, or unset {names[1]}"
                )
            return Processes(*map(int, found.values()))
    return ALONE


def check_whole_models() -> None:
    """Raises:
    QuantError: accelerate was told to shard models over the processes.
    """
    for name in SHARDED:
        if os.environ.get(name, "").lower() in ("1", "true", "yes", "on"):
            raise QuantError(
                f"{name} is set: accelerate is configured to shard models, and each process needs a whole one: launch "
                "with --multi_gpu, or without accelerate launch and with --device auto"
            )
