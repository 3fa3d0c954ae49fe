"""What larger models would need on 1, 8 and 64 GPUs: memory, tokens, days. Computed, not run.

    python benchmarks/scaling.py

FLOPs are counted from the model; activations are what autograd keeps in a forward pass here, of short sequences at two
small widths, continued linearly to the real ones; draws from a corpus are timed here. Everything about GPUs is an
assumption, stated below and in the page that comes out: the tables of docs/SCALING.md.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from command import JsonFile, run_command, write_result
from compare import training_flops_per_token
from provenance import describe_run
from torch import Tensor

from adaptgen import domains
from adaptgen.cli.common import write_new
from adaptgen.config import DataConfig, ModelConfig, SourceConfig
from adaptgen.model import Transformer
from adaptgen.shards import BatchSampler, prepare
from adaptgen.training.loop import next_token_loss
from adaptgen.training.optimizer import NEWTON_SCHULZ_STEPS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "SCALING.md"
VOCAB_SIZE, SEQ_LEN, WINDOW = 2_048, 2_048, 1_024
STEP_TOKENS = 2**19
TOKENS_PER_PARAMETER = 20
"""Hoffmann et al., "Training Compute-Optimal Large Language Models", arXiv:2203.15556."""
GPU, PEAK_BF16, PEAK_FP32 = "H100 SXM, 80 GB", 989e12, 67e12
"""Dense products, from the data sheet."""
UTILISATIONS = (0.2, 0.4)
"""Of the bf16 peak: what a first run and a tuned one may reach; nothing was measured."""
BYTES_PER_SECOND = {1: float("inf"), 8: 450e9, 64: 50e9}
"""Each way and GPU, by how many there are: NVLink within a machine, 400 Gbit/s between machines."""
SMALL_WIDTHS, SHORT_SEQ_LEN = (128, 256), 256
DRAWN_SEQUENCES = 64
GIB, FLOAT32, BFLOAT16 = 2**30, 4, 2

MODELS = {
    "100 M": ModelConfig(num_layers=12, num_heads=12, model_dim=768, attention_window=WINDOW),
    "1 B": ModelConfig(num_layers=17, num_heads=16, model_dim=2_048, attention_window=WINDOW),
}


@dataclass(frozen=True)
class Needs:
    """Of one model.

    Attributes:
        num_parameters: of them `largest_block` in the block that has most, `outside_blocks` in none.
        flops_per_token: of a training step.
        in_matrices: parameters that Muon makes orthogonal updates for.
        orthogonalizing_flops: of these, in a step, dealt out among the ranks.
        activations, checkpointed: bytes kept per sequence for the backward pass, without and with
            training.checkpoint_activations.
    """

    num_parameters: int
    largest_block: int
    outside_blocks: int
    flops_per_token: float
    in_matrices: int
    orthogonalizing_flops: float
    activations: float
    checkpointed: float

    @property
    def tokens(self) -> int:
        return TOKENS_PER_PARAMETER * self.num_parameters

    def days(self, num_gpus: int, utilisation: float) -> float:
        return self.tokens * self.flops_per_token / (num_gpus * utilisation * PEAK_BF16) / 86_400

    def held_ddp(self) -> float:
        """Bytes per GPU: weights and their bfloat16 copies, gradients, AdamW's two moments."""
        return self.num_parameters * (FLOAT32 + BFLOAT16 + FLOAT32 + 2 * FLOAT32)

    def held_fsdp(self, num_gpus: int) -> float:
        """The same divided, with what is put together at a time: two blocks and all outside the blocks, and a
        block's gradients."""
        together = (2 * self.largest_block + self.outside_blocks) * BFLOAT16 + self.largest_block * FLOAT32
        return self.num_parameters * 4 * FLOAT32 / num_gpus + together

    def exchanged_ddp(self, num_gpus: int) -> float:
        """Bytes that each GPU sends in a step: float32 gradients, once to be added and once as sums."""
        return 2 * FLOAT32 * self.num_parameters * (num_gpus - 1) / num_gpus

    def exchanged_fsdp(self, num_gpus: int) -> float:
        """The same, for one micro-batch: bfloat16 weights forward and backward, float32 gradients once."""
        return (2 * BFLOAT16 + FLOAT32) * self.num_parameters * (num_gpus - 1) / num_gpus

    def muon_seconds(self, num_gpus: int, bandwidth: float) -> float:
        """Of a step: each GPU makes its share of the updates, in float32, and gets the others."""
        received = FLOAT32 * self.in_matrices * (num_gpus - 1) / num_gpus
        return self.orthogonalizing_flops / num_gpus / PEAK_FP32 + received / bandwidth


def find_needs(config: ModelConfig) -> Needs:
    """Count and measure what a model needs."""
    with torch.device("meta"):
        model = Transformer(config, (VOCAB_SIZE,))
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.blocks]
    matrices = [p.shape for name, p in model.named_parameters() if name.startswith("blocks.") and p.dim() == 2]
    activations = _at_width(config, partial(_activations, config))
    plain = config.model_copy(update={"shortcut": None, "num_layers": 2})
    block = _at_width(plain, partial(_activations, plain))
    block -= _at_width(plain, partial(_activations, plain.model_copy(update={"num_layers": 1})))
    last_block_and_loss = activations - (config.num_layers - 1) * block
    # Of every block its input stays, and the product of queries, keys and values, which the model hands on.
    kept = config.num_layers * config.model_dim * (FLOAT32 + 3 * BFLOAT16) * SEQ_LEN
    return Needs(
        num_parameters=model.num_parameters,
        largest_block=max(blocks),
        outside_blocks=model.num_parameters - sum(blocks),
        flops_per_token=training_flops_per_token(model, SEQ_LEN),
        in_matrices=sum(map(math.prod, matrices)),
        orthogonalizing_flops=sum(map(_orthogonalizing_flops, matrices)),
        activations=activations,
        checkpointed=kept + max(block, last_block_and_loss),
    )


def _orthogonalizing_flops(shape: tuple[int, ...]) -> float:
    """Of `orthogonalize`: x x^T, its square, and that times x, in each step."""
    small, large = sorted(shape)
    return NEWTON_SCHULZ_STEPS * (2 * small**2 * large + 2 * small**3 + 2 * small**2 * large)


def _at_width(config: ModelConfig, measure: Any) -> float:
    """What is linear in the width, with the width of a head fixed, continued to a model's own."""
    (low, at_low), (high, at_high) = ((width, measure(width)) for width in SMALL_WIDTHS)
    return at_low + (at_high - at_low) / (high - low) * (config.model_dim - low)


def _activations(config: ModelConfig, width: int) -> float:
    """Bytes that one sequence more keeps for the backward pass, in bfloat16 on CPU, at another width.

    A frame keeps as much in short sequences as in long ones: attention keeps no weights.
    """
    heads = width * config.num_heads // config.model_dim
    shape = config.model_copy(update={"model_dim": width, "num_heads": heads})
    model = Transformer(shape, (VOCAB_SIZE,))
    return (_saved_bytes(model, 2) - _saved_bytes(model, 1)) * SEQ_LEN / SHORT_SEQ_LEN


def _saved_bytes(model: Transformer, batch_size: int) -> int:
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.zeros(batch_size, 1, SHORT_SEQ_LEN + 1, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(tokens[:, :, :-1])
        # Kept alive until everything is counted, so that no address is used twice.
        loss = next_token_loss(logits, tokens[:, :, 1:])
    total = sum(storages.values())
    del loss
    return total


def seconds_per_sequence() -> float:
    """Of processor time, to draw and vary a sequence of the example songs."""
    domain = domains.get("music")
    tokenizer = domain.tokenizer_type.from_options({})
    shards, _ = prepare(domain, tokenizer, SourceConfig(), DataConfig(folder="."), ROOT / "examples" / "corpus")
    batches = BatchSampler(
        [shards["train"]],
        [1.0],
        batch_size=DRAWN_SEQUENCES,
        seq_len=SEQ_LEN,
        seed=0,
        vary=partial(domain.augment, tokenizer),
    )
    batches.batch(0)
    started = time.process_time()
    batches.batch(1)
    return (time.process_time() - started) / DRAWN_SEQUENCES


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def model_table(needs: dict[str, Needs]) -> str:
    """What does not depend on the number of GPUs."""
    return _table(
        ["model", "layers x width", "parameters", "tokens", "FLOPs per token", "FLOPs in all", "steps"],
        [
            [
                name,
                f"{MODELS[name].num_layers} x {MODELS[name].model_dim:,}",
                f"{need.num_parameters / 1e6:,.0f} M",
                f"{need.tokens / 1e9:.1f} B",
                f"{need.flops_per_token / 1e9:.2f} G",
                f"{need.tokens * need.flops_per_token:.2g}",
                f"{need.tokens / STEP_TOKENS:,.0f}",
            ]
            for name, need in needs.items()
        ],
    )


def memory_table(needs: dict[str, Needs]) -> str:
    """Of one GPU, in GiB."""
    rows = []
    for name, need in needs.items():
        for num_gpus in BYTES_PER_SECOND:
            ways = {"DDP" if num_gpus > 1 else "one process": need.held_ddp()}
            ways |= {"FSDP2": need.held_fsdp(num_gpus)} if num_gpus > 1 else {}
            rows += [
                [
                    name,
                    str(num_gpus),
                    way,
                    f"{held / GIB:.1f}",
                    f"{need.activations / GIB:.2f}",
                    f"{need.checkpointed / GIB:.2f}",
                ]
                for way, held in ways.items()
            ]
    header = ["model", "GPUs", "how", "weights, gradients, AdamW", "activations per sequence", "the same, recomputed"]
    return _table(header, rows)


def time_table(needs: dict[str, Needs], draw_seconds: float) -> str:
    """Days, and what a step's parts take in seconds."""
    low, high = UTILISATIONS
    rows = []
    for name, need in needs.items():
        for num_gpus, bandwidth in BYTES_PER_SECOND.items():
            step = STEP_TOKENS * need.flops_per_token / (num_gpus * high * PEAK_BF16)
            rows.append(
                [
                    name,
                    str(num_gpus),
                    f"{need.days(num_gpus, high):.2g} to {need.days(num_gpus, low):.2g}",
                    f"{STEP_TOKENS // SEQ_LEN // num_gpus}",
                    f"{step:.2f}",
                    f"{need.exchanged_ddp(num_gpus) / bandwidth:.3f}",
                    f"{need.exchanged_fsdp(num_gpus) / bandwidth:.3f}",
                    f"{need.muon_seconds(num_gpus, bandwidth):.3f}",
                    f"{STEP_TOKENS // SEQ_LEN // num_gpus * draw_seconds:.3f}",
                ]
            )
    header = [
        "model",
        "GPUs",
        "days",
        "sequences per GPU and step",
        f"step at {high:.0%}, s",
        "exchange DDP, s",
        "exchange FSDP2, s",
        "Muon, s",
        "drawing sequences, s",
    ]
    return _table(header, rows)


def _put(text: str, name: str, table: str) -> str:
    """A page with one of its tables replaced."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, _, rest = text.partition(begin)
    return before + begin + table + "\n" + end + rest.partition(end)[2]


def main(json_file: JsonFile = None) -> None:
    """Compute the tables, print them, and write them into docs/SCALING.md."""
    torch.manual_seed(0)
    needs = {name: find_needs(config) for name, config in MODELS.items()}
    draw_seconds = seconds_per_sequence()
    run = describe_run(seed=0)
    tables = {
        "models": model_table(needs),
        "memory": memory_table(needs),
        "time": time_table(needs, draw_seconds),
        "run": f"Activations counted and {1e3 * draw_seconds:.2f} ms per drawn sequence measured on {run['cpu']}, "
        f"{run['threads']} thread, torch {run['torch']}, commit {run['commit']}, seed 0, {run['date']}.",
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        print(table + "\n")
        text = _put(text, name, table)
    write_new(PAGE, text.encode(), force=True)
    if json_file is not None:
        figures = {name: {**vars(need), "tokens": need.tokens} for name, need in needs.items()}
        write_result(json_file, {"run": run, "models": figures, "draw_seconds_per_sequence": draw_seconds})


if __name__ == "__main__":
    run_command(main)
