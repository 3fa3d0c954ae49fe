"""Put the figures of compare.py, attention.py and lead.py into docs/BENCHMARKS.md: tables, and pictures beside it.

    python benchmarks/report.py

What stands between the page's lines `<!-- begin NAME -->` and `<!-- end NAME -->` is written anew, NAME being each of
benchmarks/results/ that begins with compare_, ablations_, attention_ or lead_, or findings, one row for each corpus and
length of training, or shapes, one for each that begins with shape_; the rest is written by hand and kept.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from command import run_command

from adaptgen.errors import InputFileError
from adaptgen.inspection import depth_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "BENCHMARKS.md"
PICTURES = ROOT / "docs" / "benchmarks"
COMPARISONS = (
    "compare_music",
    "compare_performance",
    "compare_text",
    "compare_characters",
    "compare_speech",
    "compare_music-64",
    "compare_performance-64",
    "compare_text-64",
    "compare_characters-64",
    "compare_speech-64",
    "compare_music-256",
    "compare_performance-256",
    "compare_text-256",
    "compare_characters-256",
    "compare_speech-256",
    "compare_music-64-long-seeds",
    "compare_music-64-long",
    "compare_music-long",
    "compare_music-256-long",
    "compare_performance-long",
    "compare_text-64-long",
    "compare_text-long",
    "compare_characters-64-long",
    "compare_characters-long",
    "compare_speech-64-long",
    "compare_speech-long",
)
"""In the order of the findings."""
BASELINE = "plain, as many parameters"
FORMS = {
    "to all layers": "shortcut",
    "as in the paper": "shortcut as in the paper",
    "to the embedding": "shortcut, the embedding alone",
    "value residuals": "value residuals",
    "value residuals + embedding": "value residuals, shortcut to the embedding",
    "attention residuals": "attention residuals",
    "plain, as much compute": "plain, as much compute",
}


def findings(results: dict[str, dict[str, Any]]) -> str:
    """How far each form is from plain, on every corpus and at every length, in one table."""
    lines = [
        f"| corpus | width, steps, seeds | plain | {' | '.join(FORMS)} |",
        "| --- | --- | --- |" + " --- |" * len(FORMS),
    ]
    for result in (results[name] for name in COMPARISONS):
        baseline = result["variants"][result["baseline"]]
        width, steps = result["recipe"]["model"]["model_dim"], baseline["max_steps"]
        for source in result["sources"]:
            plain = baseline["sources"][source]["bits_per_unit"]
            cells = [_finding(result, form, source) for form in FORMS.values()]
            digits = 1 if plain >= 100 else 2 if plain >= 3 else 3
            start = f"{source} | {width}, {steps:,}, {result['seeds']} | {plain:.{digits}f} per {result['unit']}"
            lines.append(f"| {start} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _finding(result: dict[str, Any], form: str, source: str) -> str:
    """The difference, bold where the interval over documents leaves 0 out, with a sign where that over seeds does too;
    nothing where it was not run."""
    if form not in result["variants"]:
        return ""
    figures = result["variants"][form]["sources"][source]
    digits = 2 if figures["bits_per_unit"] >= 3 else 3
    text = f"{figures['difference']:+.{digits}f}"
    text = f"**{text}**" if _leaves_out_zero(figures["over_documents"]) else text
    return f"{text} †" if _leaves_out_zero(figures["over_seeds"]) else text


def shapes(results: Sequence[dict[str, Any]]) -> str:
    """How far the shortcut to all layers is from plain, by depth and by how much is seen."""
    lines = ["| corpus | layers | frames seen | plain | to all layers | over documents |", "| --- |" + " --- |" * 5]
    shaped = [(result["recipe"]["model"], result) for result in results]
    shaped.sort(key=lambda pair: (pair[1]["unit"], pair[0]["attention_window"] != 512, pair[0]["num_layers"]))
    for model, result in shaped:
        for source in result["sources"]:
            plain, shortcut = (
                result["variants"][name]["sources"][source] for name in (BASELINE, FORMS["to all layers"])
            )
            cells = [
                source,
                str(model["num_layers"]),
                f"{model['attention_window']:,}",
                f"{plain['bits_per_unit']:.3f} per {result['unit']}",
                f"{shortcut['difference']:+.3f}",
                _range(shortcut["over_documents"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _leaves_out_zero(interval: list[float] | None) -> bool:
    return interval is not None and interval[0] * interval[1] > 0


def section(result: dict[str, Any]) -> str:
    """The tables of one comparison, in Markdown."""
    made, training, variants = result["made"], result["recipe"]["training"], result["variants"]
    per_step = training["batch_size"] * training["seq_len"]
    where = {key: " and ".join(map(str, values)) for key, values in made.items()}
    lines = [
        f"{result['seeds']} seed{'s' * (result['seeds'] > 1)}, steps of {training['batch_size']} x "
        f"{training['seq_len']:,} tokens, {where['hardware']}, torch {where['torch']}, "
        f"commit {where['commit']}, {where['date']}.",
        "",
    ]
    for source, num_documents in result["sources"].items():
        documents = f"{num_documents} document{'s' * (num_documents > 1)}"
        lines += [
            f"| {source}: {documents} | bits per {result['unit']} | minus {result['baseline']} "
            "| over documents | over seeds |",
            "| --- | --- | --- | --- | --- |",
        ]
        for variant, row in variants.items():
            figures = row["sources"][source]
            cells = ["", "", ""]
            if variant != result["baseline"]:
                ranges = (_range(figures[key]) for key in ("over_documents", "over_seeds"))
                cells = [f"{figures['difference']:+.4f}", *ranges]
            lines.append(f"| {variant} | {figures['bits_per_unit']:.4f} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "| cost | parameters | steps | million tokens | teraFLOP to train | speed of training | speed of decoding "
        "| numbers cached a frame |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    baseline = variants[result["baseline"]]
    for variant, row in variants.items():
        tokens = row["max_steps"] * per_step
        cells = [
            f"{row['parameters']:,}",
            f"{row['max_steps']:,}",
            f"{tokens / 1e6:.1f}",
            f"{tokens * row['training_flops_per_token'] / 1e12:.1f}",
            *(f"{row[key] / baseline[key]:.2f}" for key in ("training_tokens_per_second", "decoded_frames_per_second")),
            f"{row['cached_numbers_per_frame']:,}",
        ]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _range(interval: list[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def draw(result: dict[str, Any], path: Path) -> None:
    """Validation loss against tokens and against compute; differences to the baseline with their intervals.

    An interval over two seeds says little, and would make all others too small to see: it is in the table alone.
    """
    training, variants, sources = result["recipe"]["training"], result["variants"], list(result["sources"])
    figure, axes = plt.subplots(1, 2 + len(sources), figsize=(5 * (2 + len(sources)), 4.8), layout="constrained")
    tokens_per_step = training["batch_size"] * training["seq_len"]
    colours = mpl.colormaps["tab10" if len(variants) <= 10 else "tab20"].colors
    widths = {"over_documents": 4} if result["seeds"] < 3 else {"over_seeds": 1, "over_documents": 4}
    for (name, row), colour in zip(variants.items(), itertools.cycle(colours), strict=False):
        curves = row["validation"]
        tokens = np.array([point["step"] for point in curves[0]]) * tokens_per_step
        nats = np.mean([[point["nats_per_token"] for point in curve] for curve in curves], axis=0)
        axes[0].plot(tokens / 1e6, nats, color=colour, label=name, marker="o", markersize=3)
        axes[1].plot(tokens * row["training_flops_per_token"] / 1e12, nats, color=colour, marker="o", markersize=3)
    axes[0].set(xlabel="million tokens", ylabel="validation, nats per token")
    axes[1].set(xlabel="teraFLOP", ylabel="validation, nats per token")
    figure.legend(loc="outside lower center", ncols=6, fontsize="small")
    names = [name for name in variants if name != result["baseline"]]
    for axis, source in zip(axes[2:], sources, strict=True):
        for place, name in enumerate(names):
            figures = variants[name]["sources"][source]
            for key, width in widths.items():
                if figures[key] is not None:
                    axis.plot(figures[key], [place, place], color=colours[0], linewidth=width)
            axis.plot(figures["difference"], place, "o", color="black", markersize=4)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_yticks(range(len(names)), names, fontsize="small")
        axis.invert_yaxis()
        axis.locator_params(axis="x", nbins=5)
        # In two lines: the layout makes no room beside a panel for a label that is wider than it.
        axis.set(title=source, xlabel=f"bits per {result['unit']}\nminus {result['baseline']}")
    thin = ", thin over seeds" if "over_seeds" in widths else ""
    figure.suptitle(f"Left: mean over seeds. Right: below 0 is better; thick over documents{thin} (95 %).")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def attention_section(result: dict[str, Any]) -> str:
    """The table of one checkpoint: where it looks, and what it would lose."""
    run, worth = result["run"], result["worth"]
    all_tokens = result["averages"]["all"]["all tokens"]
    depths, distances = all_tokens["depth_shares"], all_tokens["distance_shares"]
    names = [depth_name(int(depth)) for depth in depths]
    headings = [*names, "mean depth", *(f"{name} back" for name in distances)]
    lines = [
        f"`{result['checkpoint']}`, {result['parameters']:,} parameters; {result['passages']} passages of "
        f"{result['data']}'s test split, {result['tokens']:,} tokens; {run['cpu']}, torch {run['torch']}, "
        f"commit {run['commit']}, {run['date']}.",
        "",
        f"| | tokens | nats | {' | '.join(headings)} |",
        "| --- |" + " --- |" * (len(headings) + 2),
    ]
    for group in result["averages"].values():
        for name, row in group.items():
            shares = " | ".join(f"{share:.3f}" for share in row["depth_shares"].values())
            back = " | ".join(f"{share:.3f}" for share in row["distance_shares"].values())
            cells = f"{row['tokens']:,} | {row['nats']:.3f} | {shares} | {row['mean_depth']:.2f} | {back}"
            lines.append(f"| {name} | {cells} |")
    rises = " | ".join(f"{worth[depth]['value']:+.4f}" for depth in depths)
    lines += [f"| bits per {result['unit']} more without it | | | {rises} |{' |' * (1 + len(distances))}", ""]
    whole, copies = worth["all"], result["copying"]
    correlations = "; ".join(
        f"{name} {figure['value']:+.3f} ({figure['low']:+.3f} to {figure['high']:+.3f})"
        for name, figure in result["cost_and_depth"].items()
        if figure["value"] is not None
    )
    lines.append(
        f"- Without the whole shortcut: {whole['value']:+.4f} bits per {result['unit']} "
        f"({whole['low']:+.4f} to {whole['high']:+.4f} over passages)."
    )
    if correlations:
        lines.append(f"- Rank correlation of what a token costs and how deep is read for it: {correlations}.")
    # A frame of ten codes comes but once.
    if copies["tokens"]:
        lines.append(
            f"- On frames equal to the one to come: {copies['attention']:.1%} of the attention; of the frames in view "
            f"{copies['chance']:.1%} are ({copies['tokens']:,} tokens that have one)."
        )
    return "\n".join(lines)


def lead_section(result: dict[str, Any]) -> str:
    """The table of two checkpoints: on which frames one is ahead."""
    run = result["run"]
    lines = [
        f"`{result['checkpoint']}` beside `{result['baseline']}`; {result['passages']} passages of {result['data']}'s "
        f"test split; {run['cpu']}, torch {run['torch']}, commit {run['commit']}, {run['date']}.",
        "",
        f"| | frames | bits each | of the other | adds to the difference per {result['unit']} | over passages |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for sort, rows in result["sorts"].items():
        for name, row in rows.items():
            cells = [
                f"{sort}: {name}".removeprefix(": "),
                f"{row['frames']:,}",
                f"{row['bits_per_frame']:.3f}",
                f"{row['bits_per_frame_of_baseline']:.3f}",
                f"{row['difference_per_unit']:+.4f}",
                _range(row["interval"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write the page anew."""
    mpl.use("Agg")
    page = PAGE.read_text(encoding="utf-8")
    sections = {"compare": section, "ablations": section, "attention": attention_section, "lead": lead_section}
    results = [path for kind in sections for path in (ROOT / "benchmarks/results").glob(f"{kind}_*.json")]
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results)}
    page = _placed(page, "findings", findings(results))
    paths = sorted((ROOT / "benchmarks/results").glob("shape_*.json"))
    page = _placed(page, "shapes", shapes([json.loads(path.read_text(encoding="utf-8")) for path in paths]))
    for name, result in results.items():
        kind = name.partition("_")[0]
        text = sections[kind](result)
        if sections[kind] is section:
            picture = PICTURES / f"{name}.png"
            draw(result, picture)
            text += f"\n\n![Loss while training, and differences]({picture.relative_to(PAGE.parent).as_posix()})"
        page = _placed(page, name, text)
    PAGE.write_text(page, encoding="utf-8")


def _placed(page: str, name: str, text: str) -> str:
    """The page with a text in the place of that name."""
    pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
    if not re.search(pattern, page, re.DOTALL):
        raise InputFileError(f"{PAGE} has no place for {name}", f"Add <!-- begin {name} --> and its end")
    return re.sub(pattern, lambda found: f"{found[1]}{text}\n{found[2]}", page, flags=re.DOTALL)


if __name__ == "__main__":
    run_command(main)
