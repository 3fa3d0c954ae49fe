"""Where a run takes place: on which device, and shared by which processes.

    torchrun --nproc-per-node 2 -m adaptgen train RECIPE

Each process (rank) draws its own sequences of the batch and trains on them, so that the run is the one of a single
process. Gradients are averaged by DistributedDataParallel, or by FSDP2, which also divides weights and
optimiser state. A run without torchrun is one of a single rank, for which everything here leaves things as they are.

Ranks exchange tensors alone: the functions of torch.distributed for objects unpickle what they receive.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from adaptgen.config import TrainingConfig
from adaptgen.errors import AdaptgenError, InputFileError, LostProcessError, RecipeError, UsageError
from adaptgen.model import Transformer

__all__ = ["Ranks", "choose_device", "deferred_averaging", "join", "place", "whole"]

PREPARING = timedelta(days=2)
"""How long ranks wait for the first one to fetch and tokenise the data."""
SENTENCE_BYTES = 1_000
SIGNS_OF_A_LOST_RANK = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device of a process.

    Args:
        name: cuda, mps or cpu; auto takes the first of them that is there.
        local_rank: which of the machine's processes this is; each has a GPU of its own.

    Raises:
        UsageError: there is no such device, or too few.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in available.items() if is_there)
    if not available[name]:
        raise UsageError(f"torch finds no {name} device here", "Use --device auto")
    if name != "cuda":
        return torch.device(name)
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise UsageError(
            f"process {local_rank + 1} of this machine has no GPU: there are {count}",
            f"Start torchrun with --nproc-per-node {count}, or use --device cpu",
        )
    return torch.device("cuda", local_rank)


@dataclass(frozen=True)
class Ranks:
    """The processes that share a run, seen from one of them.

    Attributes:
        device: of this process.
        rank: which of all processes this is.
        local_rank: which of this machine's.
        world_size: how many there are.
        patient: the group in which they wait for the data.
    """

    device: torch.device
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    patient: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def rows_of(self, batch_size: int) -> range:
        """Which sequences of a batch are this rank's."""
        return range(self.rank, batch_size, self.world_size)

    def pass_round(self, tensors: Sequence[Tensor]) -> None:
        """Give each rank's own tensor to all others, in place.

        Args:
            tensors: by rank, at most as many as there are; this rank's is right, the others are of its shape here
                and elsewhere.
        """
        if self.world_size > 1:
            for waiting in [dist.broadcast(tensor, rank, async_op=True) for rank, tensor in enumerate(tensors)]:
                waiting.wait()

    def sum(self, *values: float) -> list[float]:
        """Each value added up over all ranks."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def any(self, is_so: bool) -> bool:
        """Whether it is so on any rank."""
        return self.sum(float(is_so))[0] > 0

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All tensors whole and in main memory, for the first rank; to be called by all. Others get none."""
        gathered = {}
        for name, tensor in tensors.items():
            full = whole(tensor.detach())
            if self.is_first:
                gathered[name] = full.cpu()
        return gathered

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """What the first rank of each machine does before the others, which then find its files.

        Raises:
            AdaptgenError: it went wrong on this rank, or on another.
        """
        if self.local_rank:
            self._agree(None)
        error = None
        try:
            yield
        except AdaptgenError as caught:
            error = caught
        if not self.local_rank:
            self._agree(error)
        self._agree(error)

    def check_same(self, fingerprint: str, *, what: str) -> None:
        """Compare what all ranks must have alike.

        Raises:
            InputFileError: one has another than the first.
        """
        sentences = self._exchange(fingerprint)
        for rank, other in enumerate(sentences):
            if other != sentences[0]:
                raise InputFileError(
                    f"process {rank} of {self.world_size} has other {what} than process 0",
                    "Give all machines the same files and the same adaptgen",
                )

    def spread(self, model: Transformer, config: TrainingConfig) -> nn.Module:
        """Put a model on this rank's device, and let its gradients be averaged over all ranks.

        Args:
            model: the same on all ranks; changed in place.
            config: says how.

        Returns:
            What to call in place of the model.

        Raises:
            RecipeError: the batch cannot be divided among the ranks, or the model has no blocks to work by.
        """
        if config.batch_size % self.world_size:
            raise RecipeError(
                f"training.batch_size {config.batch_size} is not a multiple of the {self.world_size} processes",
                "Change one of them: a batch is divided among the processes",
            )
        is_sharded = config.fsdp and self.world_size > 1
        if (is_sharded or config.checkpoint_activations) and model.config.depth_mixing == "attention_residual":
            raise RecipeError(
                "training.fsdp and training.checkpoint_activations work block by block, which a model with "
                "depth_mixing attention_residual does not",
                "Leave them out",
            )
        if config.checkpoint_activations:
            for block in model.blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if is_sharded:
            return _shard(model, config, self.device)
        model.to(self.device)
        if self.world_size == 1:
            return model
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)

    def autocast(self, config: TrainingConfig) -> AbstractContextManager[object]:
        """The precision in which a model is run; FSDP2 has its own way."""
        if config.precision == "float32" or (config.fsdp and self.world_size > 1):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _agree(self, error: AdaptgenError | None) -> None:
        """Go on if no rank has an error, else raise one on all."""
        if error is not None and self.world_size == 1:
            raise error
        for rank, sentence in enumerate(self._exchange("" if error is None else str(error))):
            if sentence:
                raise error or AdaptgenError(f"process {rank} of {self.world_size} cannot go on: {sentence}")

    def _exchange(self, sentence: str) -> list[str]:
        """One sentence of each rank, by rank."""
        if self.world_size == 1:
            return [sentence]
        data = sentence.encode()[:SENTENCE_BYTES].ljust(SENTENCE_BYTES, b"\0")
        received = [torch.empty(SENTENCE_BYTES, dtype=torch.uint8) for _ in range(self.world_size)]
        dist.all_gather(received, torch.frombuffer(bytearray(data), dtype=torch.uint8), group=self.patient)
        return [bytes(other.tolist()).rstrip(b"\0").decode(errors="replace") for other in received]


def _shard(model: Transformer, config: TrainingConfig, device: torch.device) -> nn.Module:
    """Divide weights, gradients and optimiser state among all ranks, block by block (FSDP2)."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    is_half = config.precision == "bfloat16"
    policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32) if is_half else MixedPrecisionPolicy()
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


def deferred_averaging(model: nn.Module) -> AbstractContextManager[object]:
    """Within it, gradients are added up and not yet averaged over ranks; sharded ones always are, to save memory."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be divided among ranks; then to be called by all of them."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def place(tensor: Tensor, *, like: Tensor) -> Tensor:
    """A whole tensor, which every rank has, on another's device, and divided among the ranks as that one is."""
    tensor = tensor.to(like.device)
    if not hasattr(like, "full_tensor") or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def join(device: str) -> Iterator[Ranks]:
    """Meet the other processes that torchrun has started, if there are any, and part from them at the end.

    Args:
        device: as of `choose_device`.

    Raises:
        UsageError: there is no such device.
        LostProcessError: another process has ended.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield Ranks(choose_device(device))
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    own = choose_device(device, local_rank=local_rank)
    if own.type == "mps":
        raise UsageError("MPS serves a single process", "Start without torchrun, or use --device cpu")
    if own.type == "cuda":
        torch.cuda.set_device(own)
    try:
        # Small things are always exchanged through main memory.
        dist.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo")
        patient = dist.new_group(backend="gloo", timeout=PREPARING)
        yield Ranks(own, dist.get_rank(), local_rank, dist.get_world_size(), patient)
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or any(sign in str(error) for sign in SIGNS_OF_A_LOST_RANK)):
            raise
        raise LostProcessError(
            "another process of this run has ended, so this one stops too",
            "Start all of them again with --resume, as many as you like, to go on from what was saved last",
        ) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
