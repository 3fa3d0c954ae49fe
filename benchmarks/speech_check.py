"""Do continuations of speech sound like the voice that they go on from? Words, prosody, voice and what is promised.

    python benchmarks/speech_check.py --checkpoint speech --data FOLDER --json benchmarks/results/speech_check.json

Of recordings that no training heard (the test splits of kathleen/, whose voice is known, and of speechocean762/, whose
speakers are not, below FOLDER) two seconds are given and three written. Needs the extra `judge` and Resemblyzer.
What is written is judged next to what the same voices really say (ceiling: the last three seconds of the same
recordings, as they are and through the codec) and to what says nothing (floor: the codec's frames in random order,
and the recordings backwards):

- words per second of four letters and more that a recogniser is sure of, and others that it takes to be likely, of
  which it hears as many in noise;
- pitch, levels and pauses: how many standard deviations each is from the mean of other recordings of the same voice,
  and the overlapping area of that with the voice's own deviations;
- the voice: its likeness to other recordings of the same voice, to those of other voices, and how often the same
  one is nearest; a floor are here recordings of another voice, from asterisk_en/;
- what `adaptgen continue` promises: length, loudness, no clipping, no silence, no frame that is stuck.

With `--sweep` a grid of sampling settings is tried on the validation splits: all of them on a few recordings,
then those nearest the ceiling on more, and the one nearest then is named.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import torch
import typer
from command import JsonFile, Threads, describe_sampling, run_command, write_result
from judge import Heard, Judge, Voice, describe
from prosody import PROSODY, longest_hold_seconds
from provenance import describe_run
from recognition import HEARD_HZ
from rich.console import Console
from rich.table import Table

from adaptgen import domains
from adaptgen.checkpoint import Checkpoint, load_checkpoint
from adaptgen.cli.common import new_console, progress_bar
from adaptgen.corpus_files import find_files
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.sound import SUFFIXES, loudness, open_sound, read_mono, resample
from adaptgen.errors import InputFileError, UsageError
from adaptgen.generation import generate
from adaptgen.model import new_decoder
from adaptgen.sampling import Sampling

CORPORA, OTHER_VOICE = ("kathleen", "speechocean762"), "asterisk_en"
PROMPT_SECONDS, NEW_SECONDS = 2.0, 3.0
SHORTEST_SECONDS = 1.0
"""Of a recording that says something of a voice."""
LEAST_SHARE_OF_WORDS = 0.5
LARGEST_LOUDNESS_CHANGE_DB = 6.0
SILENCE, FULL_SCALE = 1e-3, 0.999
LONGEST_HOLD_SECONDS = 1.0
PROMISES = ("exact length", "not silent", "not clipped", "loudness within 6 dB", "no stuck frame")
FIRST_ROUND_PROMPTS, SECOND_ROUND_PROMPTS, SECOND_ROUND_SETTINGS = 8, 20, 4
GRID = [
    Sampling(temperature=temperature, **keep)
    for temperature in (0.8, 0.9, 1.0)
    for keep in ({}, {"top_p": 0.9}, {"min_p": 0.05}, {"min_p": 0.1})
]


@dataclass(frozen=True)
class Case:
    """A recording to go on from, whose voice it is, and its last seconds at `HEARD_HZ`."""

    path: Path
    voice: str
    end: np.ndarray


def voice_of(corpus: str, path: Path) -> str:
    """The speaker, whom speechocean762 names in its files."""
    return path.stem.partition("_")[0] if corpus == "speechocean762" else corpus


def last_seconds(path: Path) -> np.ndarray:
    samples, _ = read_mono(open_sound(path), sample_rate_hz=HEARD_HZ)
    return samples[-int(NEW_SECONDS * HEARD_HZ) :]


def load_cases(data: Path, corpus: str, split: str, count: int) -> tuple[list[Case], dict[str, list[Path]]]:
    """Recordings to go on from, evenly spaced over those long enough, and others of the same voices."""
    every = find_files(data / corpus / split, SUFFIXES)
    long_enough = [path for path in every if open_sound(path).seconds >= PROMPT_SECONDS]
    if len(long_enough) < count:
        raise InputFileError(
            f"{data / corpus / split} has {len(long_enough)} recordings of {PROMPT_SECONDS:.0f} s or more, "
            f"{count} are asked for",
            "Give fewer with --prompts, or another folder with --data",
        )
    chosen = [long_enough[index * len(long_enough) // count] for index in range(count)]
    cases = [Case(path, voice_of(corpus, path), last_seconds(path)) for path in chosen]
    others: dict[str, list[Path]] = {case.voice: [] for case in cases}
    for path in [*every, *find_files(data / corpus / ("validation" if split == "test" else "test"), SUFFIXES)]:
        voice = voice_of(corpus, path)
        if voice in others and path not in chosen and open_sound(path).seconds >= SHORTEST_SECONDS:
            others[voice].append(path)
    return cases, others


def shuffle(samples: np.ndarray, codec: Codec, random: np.random.Generator) -> np.ndarray:
    """The codec's frames of samples at `HEARD_HZ` in random order."""
    codes = codec.encode(resample(samples, HEARD_HZ, codec.sample_rate_hz))
    return resample(codec.decode(codes[:, random.permutation(codes.shape[1])]), codec.sample_rate_hz, HEARD_HZ)


def recode(samples: np.ndarray, codec: Codec) -> np.ndarray:
    decoded = codec.decode(codec.encode(resample(samples, HEARD_HZ, codec.sample_rate_hz)))
    return resample(decoded, codec.sample_rate_hz, HEARD_HZ)[: len(samples)]


def continue_case(case: Case, checkpoint: Checkpoint, sampling: Sampling, *, seed: int) -> dict[str, Any]:
    """New sound at `HEARD_HZ`, and which promises it keeps."""
    request = ContinuationRequest(seconds=NEW_SECONDS, from_seconds=PROMPT_SECONDS, new_only=True)
    tokenizer, window = checkpoint.tokenizer, checkpoint.model.config.attention_window
    prompt = checkpoint.domain.read_prompt(case.path, tokenizer, request, window=window)
    (tokens,) = generate(new_decoder(checkpoint.model), prompt.tokens, [prompt.new_grammar()], sampling, seed=seed)
    new, rate = soundfile.read(io.BytesIO(prompt.complete(tokens).files[prompt.suffix]), dtype="float32")
    before, _ = soundfile.read(case.path, frames=int(PROMPT_SECONDS * rate), dtype="float32")
    hold = longest_hold_seconds(tokenizer.undelay(tokens), frames_per_second=tokenizer.codec.frames_per_second)
    change_db = 20 * np.log10(loudness(new, rate) / loudness(before, rate))
    kept = (
        len(new) == round(NEW_SECONDS * rate),
        loudness(new, rate) > SILENCE,
        np.abs(new).max() < max(FULL_SCALE, np.abs(before).max()),
        round(abs(change_db), 1) <= LARGEST_LOUDNESS_CHANGE_DB,
        hold <= LONGEST_HOLD_SECONDS,
    )
    return {
        "sound": resample(new, rate, HEARD_HZ),
        "promises": {name: bool(is_kept) for name, is_kept in zip(PROMISES, kept, strict=True)},
        "loudness_change_db": float(change_db),
        "longest_hold_seconds": hold,
    }


class Corpus:
    """Recordings to go on from, what is known of their voices, and the bounds of every measure."""

    def __init__(self, name: str, cases: Sequence[Case], voices: dict[str, Voice]) -> None:
        self.name, self.cases, self.voices = name, cases, voices
        self.bounds: dict[str, dict[str, Any]] = {}

    def describe(self, heard: Sequence[Heard], *, seed: int) -> dict[str, Any]:
        return describe(heard, [case.voice for case in self.cases], self.voices, seed=seed)

    def measure_bounds(
        self, judge: Judge, codec: Codec, others: Sequence[Heard], *, seed: int, on_case: Callable[[], None]
    ) -> None:
        """What real speech comes to, and what sound without words and another voice come to."""
        random = np.random.default_rng(seed)
        heard: dict[str, list[Heard]] = {name: [] for name in ("shuffled", "backwards", "coded", "real")}
        for case in self.cases:
            heard["shuffled"].append(judge.hear(shuffle(case.end, codec, random)))
            heard["backwards"].append(judge.hear(case.end[::-1]))
            heard["coded"].append(judge.hear(recode(case.end, codec)))
            heard["real"].append(judge.hear(case.end))
            on_case()
        heard["other voice"] = [others[index % len(others)] for index in range(len(self.cases))]
        self.bounds = {name: self.describe(stretches, seed=seed) for name, stretches in heard.items()}
        if not self.bounds["real"]["sure_words_per_second"]:
            raise UsageError(
                f"no word is heard for sure in {len(self.cases)} recordings of {self.name}", "Give more with --prompts"
            )


def check(
    corpora: Sequence[Corpus],
    checkpoint: Checkpoint,
    judge: Judge,
    sampling: Sampling,
    *,
    seed: int,
    on_case: Callable[[], None],
) -> dict[str, Any]:
    """Go on from all recordings with one setting."""
    result: dict[str, Any] = {"sampling": asdict(sampling), "corpora": {}}
    for corpus in corpora:
        rows, heard = [], []
        for index, case in enumerate(corpus.cases):
            row = continue_case(case, checkpoint, sampling, seed=seed + index)
            heard.append(judge.hear(row.pop("sound")))
            words = {"sure_words": heard[-1].sure_words, "likely_words": heard[-1].likely_words}
            rows.append({"recording": case.path.name, **words, **row})
            on_case()
        figures = corpus.describe(heard, seed=seed)
        figures["share_of_real_words"] = _share(figures, corpus.bounds["real"])
        kept = {name: float(np.mean([row["promises"][name] for row in rows])) for name in PROMISES}
        result["corpora"][corpus.name] = {**figures, "promises_kept": kept, "continuations": rows}
    result["distance"] = float(np.mean([distance(result["corpora"][c.name], c.bounds["real"]) for c in corpora]))
    return result


def _share(figures: dict[str, Any], real: dict[str, Any]) -> float:
    """Sure words for each of real speech."""
    return figures["sure_words_per_second"] / real["sure_words_per_second"]


def distance(figures: dict[str, Any], real: dict[str, Any]) -> float:
    """How far from real speech, in words, prosody and voice, which count the same."""
    words = abs(1 - _share(figures, real))
    overlaps = [figures["prosody"][name]["overlap"] - real["prosody"][name]["overlap"] for name in PROSODY]
    return float(np.mean([words, np.abs(overlaps).mean(), abs(figures["own_likeness"] - real["own_likeness"])]))


def load_corpora(data: Path, split: str, count: int, judge: Judge, codec: Codec, *, seed: int) -> list[Corpus]:
    """All corpora with their voices and bounds; each voice is told from all others."""
    found = {name: load_cases(data, name, split, count) for name in CORPORA}
    others = find_files(data / OTHER_VOICE / "test", SUFFIXES)
    others = [path for path in others if open_sound(path).seconds >= SHORTEST_SECONDS]
    if not others:
        raise InputFileError(f"{data / OTHER_VOICE / 'test'} has no recordings", "Give another folder with --data")
    files = {OTHER_VOICE: others} | {voice: paths for _, of in found.values() for voice, paths in of.items()}
    with progress_bar() as progress:
        task = progress.add_task("voices", total=sum(map(len, files.values())), status="recordings")
        heard: dict[str, list[Heard]] = {}
        for voice, paths in files.items():
            heard[voice] = []
            for path in paths:
                heard[voice].append(judge.hear(last_seconds(path), with_words=False))
                progress.advance(task)
        voices = {voice: Voice.of(of) for voice, of in heard.items()}
        corpora = [Corpus(name, cases, voices) for name, (cases, _) in found.items()]
        task = progress.add_task("bounds", total=count * len(corpora), status="recordings")
        for corpus in corpora:
            corpus.measure_bounds(judge, codec, heard[OTHER_VOICE], seed=seed, on_case=lambda: progress.advance(task))
    return corpora


def check_all(
    corpora: Sequence[Corpus], checkpoint: Checkpoint, judge: Judge, settings: Sequence[Sampling], *, seed: int
) -> list[dict[str, Any]]:
    """Each setting on all recordings, the one nearest real speech first."""
    results = []
    with progress_bar() as progress:
        total = len(settings) * sum(len(corpus.cases) for corpus in corpora)
        task = progress.add_task("continuations", total=total, status="")
        for sampling in settings:
            progress.update(task, status=describe_sampling(asdict(sampling)))
            results.append(
                check(corpora, checkpoint, judge, sampling, seed=seed, on_case=lambda: progress.advance(task))
            )
    return sorted(results, key=lambda result: result["distance"])


def print_result(result: dict[str, Any], corpora: Sequence[Corpus], console: Console) -> None:
    """One table per corpus: bounds and the continuations, one column each."""
    for corpus in corpora:
        figures = result["corpora"][corpus.name]
        columns = {**corpus.bounds, "continuation": figures}
        console.print(f"{corpus.name}: {len(corpus.cases)} recordings, {describe_sampling(result['sampling'])}")
        table = Table("", *columns, box=None)
        low, high = figures["sure_words_interval"]
        rows = {
            "sure words/s": [_shown(column.get("sure_words_per_second")) for column in columns.values()],
            "likely words/s": [_shown(column.get("likely_words_per_second")) for column in columns.values()],
            "own likeness": [f"{column['own_likeness']:.2f}" for column in columns.values()],
            "likeness to others": [f"{column['other_likeness']:.2f}" for column in columns.values()],
            "own voice nearest": [f"{column['own_is_nearest_share']:.0%}" for column in columns.values()],
        }
        for name in PROSODY:
            rows[name.replace("_", " ")] = [
                f"{column['prosody'][name]['overlap']:.2f} ({column['prosody'][name]['usual_share']:.0%})"
                for column in columns.values()
            ]
        for name, cells in rows.items():
            table.add_row(name, *cells)
        console.print(table)
        share = figures["share_of_real_words"]
        is_met = "met" if share >= LEAST_SHARE_OF_WORDS else "missed"
        console.print(f"sure words {low:.2f} to {high:.2f} a second; {share:.0%} of real speech, aim 50 %: {is_met}")
        console.print(", ".join(f"{name} {kept:.0%}" for name, kept in figures["promises_kept"].items()))


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def print_sweep(results: Sequence[dict[str, Any]], console: Console) -> None:
    """One row per setting, nearest first."""
    table = Table("sampling", "distance", *(f"words of real, {name}" for name in CORPORA), box=None)
    for result in results:
        shares = [f"{result['corpora'][name]['share_of_real_words']:.0%}" for name in CORPORA]
        table.add_row(describe_sampling(result["sampling"]), f"{result['distance']:.3f}", *shares)
    console.print(table)


def main(
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "speech",
    data: Annotated[Path, typer.Option(help="Folder with the corpora.")] = Path("data"),
    json_file: JsonFile = None,
    prompts: Annotated[int, typer.Option(min=2, help="How many recordings of each corpus.")] = 40,
    sweep: Annotated[bool, typer.Option("--sweep", help="Try a grid of settings on validation recordings.")] = False,
    temperature: Annotated[float | None, typer.Option(help="The checkpoint's own settings if none is given.")] = None,
    top_k: Annotated[int | None, typer.Option()] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    min_p: Annotated[float | None, typer.Option()] = None,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the sampling and the bootstrap.")] = 0,
) -> None:
    """Judge continuations of speech."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_checkpoint(checkpoint, domain=domains.get("speech"))
    codec, judge, console = loaded.tokenizer.codec, Judge(), new_console()
    given = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    settings = [loaded.sampling]
    if temperature is not None or any(given.values()):
        settings = [Sampling(temperature=1.0 if temperature is None else temperature, **given)]
    rounds: dict[str, Any] = {}
    if sweep:
        few = load_corpora(data, "validation", FIRST_ROUND_PROMPTS, judge, codec, seed=seed)
        rounds["first_round"] = check_all(few, loaded, judge, GRID, seed=seed)
        print_sweep(rounds["first_round"], console)
        settings = [Sampling(**one["sampling"]) for one in rounds["first_round"][:SECOND_ROUND_SETTINGS]]
        corpora = load_corpora(data, "validation", SECOND_ROUND_PROMPTS, judge, codec, seed=seed)
    else:
        corpora = load_corpora(data, "test", prompts, judge, codec, seed=seed)
    results = check_all(corpora, loaded, judge, settings, seed=seed)
    if sweep:
        print_sweep(results, console)
    print_result(results[0], corpora, console)
    if json_file is not None:
        about = {"checkpoint": loaded.name, "codec": codec.fingerprint, "trained": loaded.metrics}
        bounds = {corpus.name: corpus.bounds for corpus in corpora}
        result = {"run": describe_run(seed=seed), **about, "bounds": bounds, **rounds, "results": results}
        write_result(json_file, result)


if __name__ == "__main__":
    run_command(main)
