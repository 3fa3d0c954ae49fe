"""How fast are tokens drawn, beside Hugging Face transformers, beside what the weights alone cost, and with shortcuts?

    python benchmarks/speed_decode.py --threads 2 --json benchmarks/results/speed_decode.json

The peer is `generate` on a GPT-2 of the same shape: key/value cache, sampling, a prompt of random tokens. Both sides
are timed whole, prompt and sampling included. "Ours" is what `adaptgen continue` does: FastDecoder, a row on one
thread, several on as many as there are. "Forward" is our model without it; like the peer it uses all threads. The floor
is the time of the model's products of float32 matrices with one vector, and of nothing else: no attention, no cache, no
sampling. Ours reads weights, keys and values in float16, so it may be beaten; what that costs in bits is measured on
what ships.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from speed import (
    ALL_LAYERS,
    PLAIN,
    SHORTCUT,
    VOCAB_SIZE,
    AnyTokens,
    describe_speed_run,
    gpt2,
    prepare,
    print_ratios,
    ratio,
    table_row,
    time_in_turns,
    transformer,
)

from adaptgen import domains
from adaptgen.checkpoint import load_checkpoint
from adaptgen.config import DataConfig
from adaptgen.continuation import continue_file
from adaptgen.corpus_files import split_files
from adaptgen.domains.base import ContinuationRequest
from adaptgen.generation import generate
from adaptgen.model import Decoder, ForwardDecoder, Transformer
from adaptgen.model.fast_decoder import FastDecoder
from adaptgen.sampling import Sampling
from adaptgen.shipped import find_shipped

WIDTHS = (256, 512)
PROMPT_FRAMES, BATCH_SIZE, LOW_TOKENS = 512, 16, 64
CONTEXTS = (1_000, 8_000)
POSITIONS, ROLLING_WINDOW = (500, 16_000), 1_024
STEPS = 16
SCORED_DOCUMENTS, SCORED_FRAMES = 8, 384
SONG = Path(__file__).parents[1] / "examples" / "song.mid"
BARS, BARS_TIMED = (50, 500), 10


def main(
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(help="How often each thing is timed.")] = 2,
    new_tokens: Annotated[int, typer.Option(help="Drawn by each call.")] = 512,
    json: JsonFile = None,
) -> None:
    """Print ratios, with the least and the most of the rounds in brackets."""
    prepare(threads)
    result: dict[str, Any] = describe_speed_run(rounds=rounds, new_tokens=new_tokens, prompt=PROMPT_FRAMES)
    for width in WIDTHS:
        result[f"width {width}"] = _compare_with_peer(width, rounds=rounds, new_tokens=new_tokens)
    for context in CONTEXTS:
        result[f"context {context}"] = _shortcut_cost(context, rounds=4 * rounds)
    of_contexts = [
        table_row(f"time of a step, {form}, 8 x {WIDTHS[0]}, context {context:,}", aim, figure, "our plain model")
        for context, aim in zip(CONTEXTS, ("<= 1.15 x", "<= 1.5 x"), strict=True)
        for form, figure in result[f"context {context}"]["figures"].items()
    ]
    result["growth"] = _growth(rounds=rounds)
    result["song"] = _long_song()
    result["rounding"] = {name: _rounding(name) for name in domains.names()}
    if json is not None:
        result["table"] = [
            *(row for width in WIDTHS for row in _peer_rows(width, result[f"width {width}"])),
            *of_contexts,
            table_row(
                f"time of a step at position {POSITIONS[1]:,}, window {ROLLING_WINDOW:,}",
                "<= 2 x",
                result["growth"]["figure"],
                f"position {POSITIONS[0]}",
            ),
            table_row(
                f"time of a token in bars {BARS[1] - BARS_TIMED} to {BARS[1]} of a song",
                "constant",
                f"{result['song']['ratio']:.2f} x",
                f"bars {BARS[0] - BARS_TIMED} to {BARS[0]}",
            ),
            *(
                table_row(
                    f"bits that our decoder gives {name}", "<= +0.5 %", f"{change:+.4%}", "our model's own forward"
                )
                for name, change in result["rounding"].items()
            ),
        ]
        write_result(json, result)


def _compare_with_peer(width: int, *, rounds: int, new_tokens: int) -> dict[str, Any]:
    """Batch 1 in all ways, and ours with 16 continuations at once."""
    length = PROMPT_FRAMES + new_tokens
    model, peer = transformer(width, window=length), gpt2(width, length=length)
    fast, forward = FastDecoder(model), ForwardDecoder(model)
    of_all_layers = FastDecoder(transformer(width, window=length, form=ALL_LAYERS))
    low_peer = gpt2(width, length=length).to(torch.bfloat16)
    prompt = np.random.default_rng(0).integers(VOCAB_SIZE, size=(1, PROMPT_FRAMES))
    matrices = [matrix.detach() for matrix in model.parameters() if matrix.dim() == 2 and len(matrix) >= width]
    vectors = [torch.randn(matrix.shape[1]) for matrix in matrices]

    def ours(decoder: Decoder, num_rows: int = 1, new_tokens: int = new_tokens) -> None:
        grammars = [AnyTokens(new_tokens) for _ in range(num_rows)]
        generate(decoder, prompt, grammars, Sampling(), seed=0)

    def theirs(model: Any, new_tokens: int = new_tokens, num_rows: int = 1) -> None:
        tokens = torch.from_numpy(prompt).repeat(num_rows, 1)
        options = {"do_sample": True, "top_k": 0, "use_cache": True}
        model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            **options,
        )

    @torch.inference_mode()
    def floor() -> None:
        for _ in range(new_tokens):
            for matrix, vector in zip(matrices, vectors, strict=True):
                torch.mv(matrix, vector)

    # In bfloat16, where a CPU has no products for it, a prompt can take minutes, so that is timed once, briefly.
    of_dtypes = time_in_turns(
        {"float32": lambda: theirs(peer, LOW_TOKENS), "bfloat16": lambda: theirs(low_peer, LOW_TOKENS)}, rounds=1
    )
    seconds = time_in_turns(
        {
            "floor": floor,
            "forward": lambda: ours(forward),
            "peer": lambda: theirs(peer),
            "ours": lambda: ours(fast),
            "ours, all layers": lambda: ours(of_all_layers),
            "ours, batch": lambda: ours(fast, BATCH_SIZE),
        },
        rounds=rounds,
    )
    # The peer takes long for sixteen rows, so few tokens are drawn for this.
    of_batches = time_in_turns(
        {
            "peer": lambda: theirs(peer, LOW_TOKENS, BATCH_SIZE),
            "ours": lambda: ours(fast, BATCH_SIZE, LOW_TOKENS),
        },
        rounds=1,
    )
    batch = ratio(seconds, "ours", "ours, batch")
    figures = {
        "peer over ours": ratio(seconds, "peer", "ours"),
        "peer over ours, all layers": ratio(seconds, "peer", "ours, all layers"),
        "forward over ours": ratio(seconds, "forward", "ours"),
        "floor over ours": ratio(seconds, "floor", "ours"),
        "peer bfloat16 over peer float32": ratio(of_dtypes, "bfloat16", "float32"),
        "peer over ours, batch 16": ratio(of_batches, "peer", "ours"),
        "batch 16 over batch 1, tokens/s": {name: BATCH_SIZE * value for name, value in batch.items()},
    }
    weight_mb = sum(matrix.numel() * matrix.element_size() for matrix in matrices) / 1e6
    cache_mb = model.new_cache(1).num_bytes / (2 * length) * (PROMPT_FRAMES + new_tokens / 2) / 1e6
    read = f"{weight_mb:.0f} MB of weights, {cache_mb:.0f} MB of keys and values on average"
    print(f"8 layers x {width}, {SHORTCUT}: a step reads {read}, in float32")
    for name, times in seconds.items():
        print(f"  {name:<34} {1000 * statistics.median(times) / new_tokens:7.2f} ms per step")
    print_ratios(figures)
    return {
        "seconds": seconds,
        "seconds of the peer's dtypes": of_dtypes,
        "seconds of batches": of_batches,
        "figures": figures,
        "read": read,
    }


def _peer_rows(width: int, result: dict[str, Any]) -> list[dict[str, str]]:
    figures = result["figures"]
    of_peer, of_floor = {256: (">= 2 x", ">= 0.5 x"), 512: (">= 1.4 x", ">= 0.75 x")}[width]
    peer, floor, shape = "transformers' `generate`, float32", "products with weights alone, float32", f"8 x {width}"
    return [
        table_row(f"what a step reads, {shape}, float32", "", result["read"]),
        table_row(f"speed, {shape}", of_peer, figures["peer over ours"], peer),
        table_row(f"speed, {ALL_LAYERS}, {shape}", of_peer, figures["peer over ours, all layers"], peer),
        table_row("time of the peer in bfloat16", "", figures["peer bfloat16 over peer float32"], peer),
        table_row(f"speed, {shape}", "", figures["forward over ours"], "our model's own forward"),
        table_row(f"speed, {shape}", of_floor, figures["floor over ours"], floor),
        table_row(
            f"tokens/s of {BATCH_SIZE} continuations at once, {shape}",
            ">= 8 x",
            figures["batch 16 over batch 1, tokens/s"],
            "ours at batch 1",
        ),
        table_row(
            f"speed of {BATCH_SIZE} continuations of {LOW_TOKENS} tokens at once, {shape}",
            "",
            figures["peer over ours, batch 16"],
            peer,
        ),
    ]


def _shortcut_cost(context: int, *, rounds: int) -> dict[str, Any]:
    """Time of a step with shortcuts over that of the plain model with so many frames in view."""
    window = context + STEPS * (rounds + 2)
    forms = (PLAIN, SHORTCUT, ALL_LAYERS)
    tasks = {form: _Steps(transformer(WIDTHS[0], window=window, form=form), context) for form in forms}
    seconds = time_in_turns(tasks, rounds=rounds)
    figures = {form: ratio(seconds, form, PLAIN) for form in (SHORTCUT, ALL_LAYERS)}
    print_ratios({f"{form}, over plain, context {context}": figure for form, figure in figures.items()})
    return {"seconds": seconds, "figures": figures}


def _growth(*, rounds: int) -> dict[str, Any]:
    """Time of a step far behind the window over that of an early one."""
    model = transformer(WIDTHS[0], window=ROLLING_WINDOW)
    early, late = (_Steps(model, position) for position in POSITIONS)
    seconds = time_in_turns({"early": early, "late": late}, rounds=rounds)
    figure = ratio(seconds, "late", "early")
    print_ratios({f"position {POSITIONS[1]} over {POSITIONS[0]}, window {ROLLING_WINDOW}": figure})
    return {"seconds": seconds, "figure": figure}


def _long_song() -> dict[str, Any]:
    """Time of a token, all in, late in a continuation of the shipped song over that of an early one."""
    shares: list[tuple[float, float]] = []
    request = ContinuationRequest(bars=BARS[1])
    started = time.perf_counter()
    continue_file(
        SONG,
        load_checkpoint("music"),
        request,
        Sampling(min_p=0.02),
        on_progress=lambda share: shares.append((share, time.perf_counter() - started)),
    )
    of_bars = [[seconds for share, seconds in shares if end - BARS_TIMED <= share * BARS[1] <= end] for end in BARS]
    early, late = (statistics.median(np.diff(seconds)) for seconds in of_bars)
    print(f"  a token in bar {BARS[1]} over one in bar {BARS[0]}: {late / early:.2f}")
    return {"milliseconds": [1000 * early, 1000 * late], "ratio": late / early}


def _rounding(domain_name: str) -> float:
    """How many more bits the shipped checkpoint gives to files that it has not seen, frame by frame, by our decoder."""
    domain = domains.get(domain_name)
    checkpoint = load_checkpoint(domain.default_checkpoint, domain=domain)
    folder = find_shipped(domain.held_out)
    files = split_files(folder, domain.suffixes, DataConfig(folder=str(folder), validation_share=0, test_share=0))
    documents = [
        document[:, :SCORED_FRAMES]
        for path, _ in files["test"] or files["train"]
        for document in domain.read_documents(path, checkpoint.tokenizer, is_training=False)
    ][:SCORED_DOCUMENTS]
    decoders = FastDecoder(checkpoint.model), ForwardDecoder(checkpoint.model)
    nats = [sum(_nats(decoder, document) for document in documents) for decoder in decoders]
    print(f"  {domain_name}: {nats[0] / nats[1] - 1:+.5%} bits by our decoder")
    return nats[0] / nats[1] - 1


def _nats(decoder: Decoder, document: np.ndarray) -> float:
    """Of the frames of `[K, T]` after the first."""
    logits = [decoder.start(document[:, :1], 1)]
    logits += [decoder.step(frame[None]) for frame in document[:, 1:-1].T]
    log_shares = torch.from_numpy(np.concatenate(logits)).double().log_softmax(dim=-1)
    return -float(log_shares.gather(2, torch.from_numpy(document[:, 1:].T.astype(np.int64)).unsqueeze(2)).sum())


class _Steps:
    """Some steps on from a prompt of so many frames, each time it is called."""

    def __init__(self, model: Transformer, num_frames: int) -> None:
        self.decoder, self.frame = FastDecoder(model), np.zeros((1, 1), dtype=np.int64)
        self.decoder.start(np.random.default_rng(0).integers(VOCAB_SIZE, size=(1, num_frames)), 1)

    def __call__(self) -> None:
        for _ in range(STEPS):
            self.decoder.step(self.frame)


if __name__ == "__main__":
    run_command(main)
