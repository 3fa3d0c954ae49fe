"""What the shipped speech codec keeps of recordings that it was not fitted to.

    python benchmarks/score_codec.py --data FOLDER --json benchmarks/results/score_codec.json

FOLDER holds kathleen/ (a voice that the codec knows), speechocean762/ and asterisk_en/ (speakers that it does not),
each with sound files below test/, and fsdd/ (digits of speakers that it does not know, in test/ and validation/, named
by the digit). Needs the extra `judge`. Every file counts the same, and the interval is a bootstrap over files.

Words are those that a recogniser hears. What counts is how many of those that it hears in the recording it hears
otherwise once all streams are coded; next to that stand its errors against the transcript, where there is one, of
the recording itself and of the coded one. Digits are heard with nothing but the ten of them to choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import JsonFile, run_command, write_result
from provenance import describe_run
from recognition import DIGITS, HEARD_HZ, Recognizer, read_transcripts, words_of, words_wrong
from rich.console import Console
from rich.table import Table

from adaptgen.cli.common import new_console, progress_bar
from adaptgen.corpus_files import find_files
from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.codecs import DEFAULT_CODEC, load_codec
from adaptgen.domains.speech.metrics import score_codec, spectral_flatness_db
from adaptgen.domains.speech.sound import SUFFIXES, open_sound, read_mono, resample
from adaptgen.errors import InputFileError

CORPORA = ("kathleen", "speechocean762", "asterisk_en")
DIGIT_CORPUS, DIGIT_SPLITS = "fsdd", ("test", "validation")
FIGURES = ("stoi", "pesq", "mel_distance_db", "pitch_error_semitones", "flatness_change_db", "real_time_factor")
WORD_FIGURES = ("changed_words", "wrong_words", "wrong_words_original")
NUM_RESAMPLES = 2000
AIMS = {
    "kathleen": {"stoi": 0.93, "pesq": 2.2, "changed_words": 0.24},
    "speechocean762": {"stoi": 0.86, "pesq": 2.1, "changed_words": 0.32},
    "asterisk_en": {"stoi": 0.86, "pesq": 2.1, "changed_words": 0.32},
}
LARGEST_LOSS_OF_DIGITS = 0.05


def summarize(values: Sequence[float], *, of: Sequence[float] | None = None, seed: int) -> dict[str, float | int]:
    """Mean over files, or what values come to in all by what `of` comes to, with its 95 % interval."""
    numerators, denominators = np.array(values), np.ones(len(values)) if of is None else np.array(of)
    drawn = np.random.default_rng(seed).integers(len(numerators), size=(NUM_RESAMPLES, len(numerators)))
    ratios = numerators[drawn].sum(axis=1) / np.maximum(1, denominators[drawn].sum(axis=1))
    low, high = np.quantile(ratios, [0.025, 0.975])
    mean = float(numerators.sum() / max(1, denominators.sum()))
    return {"mean": mean, "low": float(low), "high": float(high), "files": len(numerators)}


def find_some(folder: Path, count: int | None) -> list[Path]:
    """Sound files of a folder, or so many of them, evenly spaced."""
    paths = find_files(folder, SUFFIXES)
    if not paths:
        raise InputFileError(f"{folder} has no sound files", "Give another folder with --data")
    return paths if count is None else evenly(paths, count)


def evenly(paths: list[Path], count: int) -> list[Path]:
    count = min(count, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


def read(path: Path, codec: Codec) -> np.ndarray:
    return read_mono(open_sound(path), sample_rate_hz=codec.sample_rate_hz)[0]


def recode(samples: np.ndarray, codec: Codec) -> np.ndarray:
    return codec.decode(codec.encode(samples))[: len(samples)]


def score_sound(
    codec: Codec, paths: Sequence[Path], counts: Sequence[int], *, seed: int, on_file: Callable[[], None]
) -> dict[str, Any]:
    """Figures of a corpus for each number of streams, and how flat the spectrum of its recordings is."""
    scored, flatness = [], []
    for path in paths:
        samples = read(path, codec)
        scored.append(score_codec(codec, samples, stream_counts=counts))
        flatness.append(spectral_flatness_db(samples, sample_rate_hz=codec.sample_rate_hz))
        on_file()
    by_streams = []
    for index, count in enumerate(counts):
        rows = [file[index] for file in scored]
        known = {name: [row[name] for row in rows if row[name] is not None] for name in FIGURES}
        summary = {name: summarize(values, seed=seed) if values else None for name, values in known.items()}
        about = {"codebooks": count, "bits_per_second": rows[0]["bits_per_second"], "files": len(rows)}
        by_streams.append({**about, **summary})
    known = [value for value in flatness if value is not None]
    return {"original_flatness_db": summarize(known, seed=seed) if known else None, "by_streams": by_streams}


def score_words(
    codec: Codec, corpus: Path, paths: Sequence[Path], ears: Recognizer, *, seed: int, on_file: Callable[[], None]
) -> dict[str, Any]:
    """Share of words that are heard otherwise: coded than original, and each than the transcript."""
    transcripts = read_transcripts(corpus)
    changed, with_text = [], []
    for path in paths:
        samples = read(path, codec)
        sounds = (samples, recode(samples, codec))
        original, coded = (
            [word.text for word in ears.words(resample(sound, codec.sample_rate_hz, HEARD_HZ))] for sound in sounds
        )
        changed.append((words_wrong(original, coded), len(original)))
        text = words_of(transcripts.get(path.relative_to(corpus).as_posix(), ""))
        if text:
            with_text.append((words_wrong(text, coded), words_wrong(text, original), len(text)))
        on_file()
    differing, heard = np.array(changed).T
    figures = {"changed_words": summarize(differing, of=heard, seed=seed)}
    if with_text:
        of_coded, of_original, lengths = np.array(with_text).T
        figures["wrong_words"] = summarize(of_coded, of=lengths, seed=seed)
        figures["wrong_words_original"] = summarize(of_original, of=lengths, seed=seed)
    return figures


def score_digits(
    codec: Codec, paths: Sequence[Path], ears: Recognizer, *, seed: int, on_file: Callable[[], None]
) -> dict[str, Any]:
    """Share of digits that are heard right, and what coding takes from it."""
    right = []
    for path in paths:
        samples = read(path, codec)
        digit = DIGITS[int(path.name[0])]
        right.append(
            [
                ears.digit(resample(sound, codec.sample_rate_hz, HEARD_HZ)) == digit
                for sound in (samples, recode(samples, codec))
            ]
        )
        on_file()
    original, coded = np.array(right, dtype=float).T
    return {
        "original": summarize(original, seed=seed),
        "coded": summarize(coded, seed=seed),
        "loss": summarize(original - coded, seed=seed),
    }


def print_tables(result: dict[str, Any], console: Console) -> None:
    """What is heard of the sound, of words and of digits, and whether it is as much as was aimed at."""
    table = Table("corpus", box=None)
    for heading in ("codebooks", "bits/s", "files", *(name.replace("_", " ") for name in FIGURES)):
        table.add_column(heading, justify="right")
    for corpus, figures in result["corpora"].items():
        for row in figures["by_streams"]:
            cells = [f"{row[name]['mean']:.3f}" if row[name] else "-" for name in FIGURES]
            table.add_row(corpus, str(row["codebooks"]), str(row["bits_per_second"]), str(row["files"]), *cells)
    console.print(table)
    if "digits" not in result:
        return
    table = Table("corpus", *(name.replace("_", " ") for name in WORD_FIGURES), box=None)
    for corpus, figures in result["words"].items():
        table.add_row(corpus, *(_shown(figures.get(name)) for name in WORD_FIGURES))
    console.print(table)
    console.print(f"digits right: {', '.join(f'{name} {_shown(found)}' for name, found in result['digits'].items())}")
    for aim in result["aims"]:
        met = "met" if aim["is_met"] else "missed"
        console.print(f"{aim['corpus']}: {aim['figure'].replace('_', ' ')} {aim['value']:.3f}, aim {aim['aim']}: {met}")


def _shown(found: dict[str, float | int] | None) -> str:
    return "-" if found is None else f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def compare_with_aims(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each aim and what was measured with the largest number of streams."""
    aims = []
    for corpus, wanted in AIMS.items():
        row = max(result["corpora"][corpus]["by_streams"], key=lambda row: row["codebooks"])
        for name, aim in wanted.items():
            figure = result["words"][corpus][name] if name in WORD_FIGURES else row[name]
            if figure is not None:
                value = figure["mean"]
                is_met = value <= aim if name in WORD_FIGURES else value >= aim
                aims.append({"corpus": corpus, "figure": name, "value": value, "aim": aim, "is_met": is_met})
    loss = result["digits"]["loss"]["mean"]
    is_met = loss <= LARGEST_LOSS_OF_DIGITS
    about = {"corpus": DIGIT_CORPUS, "figure": "loss_of_digits", "value": loss, "aim": LARGEST_LOSS_OF_DIGITS}
    return [*aims, {**about, "is_met": is_met}]


def main(
    data: Annotated[Path, typer.Option(help="Folder with the corpora.")] = Path("data"),
    codec: Annotated[str, typer.Option(help="Name of the codec.")] = DEFAULT_CODEC,
    weights: Annotated[Path | None, typer.Option(help="Folder of its weights; those that ship if not given.")] = None,
    codebooks: Annotated[str, typer.Option(help="Numbers of streams.")] = "3,6,10",
    files: Annotated[int, typer.Option(min=2, help="So many of each corpus, evenly spaced, if it has them.")] = 40,
    spoken: Annotated[int, typer.Option(min=0, help="In so many of those words are heard; 0 leaves it out.")] = 24,
    digits: Annotated[int, typer.Option(min=2, help="So many digits of each split.")] = 100,
    json_file: JsonFile = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Score a codec on the test split of each corpus."""
    torch.set_num_threads(1)
    chosen = load_codec(codec, weights=weights)
    counts = [int(count) for count in codebooks.split(",")]
    ears = Recognizer() if spoken else None
    found = {corpus: find_some(data / corpus / "test", files) for corpus in CORPORA}
    numbers = []
    if ears is not None:
        numbers = [path for split in DIGIT_SPLITS for path in find_some(data / DIGIT_CORPUS / split, digits)]
    about = {"codec": chosen.fingerprint, "fitted": getattr(chosen, "about", {})}
    result: dict[str, Any] = {"run": describe_run(seed=seed), **about, "corpora": {}}
    with progress_bar() as progress:

        def files_of(name: str, paths: list[Path]) -> Callable[[], None]:
            task = progress.add_task(name, total=len(paths), status="files")
            return lambda: progress.advance(task)

        for corpus, paths in found.items():
            on_file = files_of(corpus, paths)
            result["corpora"][corpus] = score_sound(chosen, paths, counts, seed=seed, on_file=on_file)
        if ears is not None:
            result["words"] = {}
            for corpus, paths in found.items():
                heard = evenly(paths, spoken)
                on_file = files_of(f"words of {corpus}", heard)
                result["words"][corpus] = score_words(chosen, data / corpus, heard, ears, seed=seed, on_file=on_file)
            on_file = files_of("digits", numbers)
            result["digits"] = score_digits(chosen, numbers, ears, seed=seed, on_file=on_file)
            result["aims"] = compare_with_aims(result)
    print_tables(result, new_console())
    if json_file is not None:
        write_result(json_file, result)


if __name__ == "__main__":
    run_command(main)
