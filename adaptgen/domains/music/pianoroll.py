"""Draw a MIDI file as a piano roll, with the place where new music begins."""

from __future__ import annotations

import io
import warnings
from collections import defaultdict

import mido
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from adaptgen.domains.music.performance import SoundingNote, bar_lines, sounding_notes
from adaptgen.domains.music.song import DRUM_CHANNEL
from adaptgen.palette import COLOURS

__all__ = ["draw_pianoroll"]

_DPI = 150
_MAX_LEGEND = len(COLOURS)
_DRUM_NAMES = {
    35: "kick 2", 36: "kick", 37: "side stick", 38: "snare", 39: "clap", 40: "snare 2", 42: "hi-hat",
    44: "hi-hat pedal", 46: "open hi-hat", 49: "crash", 51: "ride", 53: "ride bell", 54: "tambourine",
    56: "cowbell", 57: "crash 2", 59: "ride 2",
}  # fmt: skip


def draw_pianoroll(midi: mido.MidiFile, *, join_seconds: float | None = None, title: str = "") -> bytes:
    """The notes of a file over time, as a PNG.

    Every track has its colour, softer notes are paler, drums have a strip of their own below with one row per
    drum. Notes are drawn as long as their keys are held; the sustain pedal is not drawn. Bars are marked and
    numbered if the file tells its metre.

    Args:
        midi: a parsed file with `ticks_per_beat` of at least 1.
        join_seconds: where the new music begins, marked by a line; None for no line.
        title: a heading.
    """
    notes = sounding_notes(midi, use_pedal=False)
    drums = [note for note in notes if note.channel == DRUM_CHANNEL]
    pitched = [note for note in notes if note.channel != DRUM_CHANNEL]
    end = max([1.0, *(note.end for note in notes), (join_seconds or 0.0) + 0.5])
    width = min(max(9.0, 0.2 * end), 18.0)

    figure = Figure(figsize=(width, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    rows = []
    if pitched or not drums:
        rows.append((_draw_pitched, pitched, 4.0))
    if drums:
        rows.append((_draw_drums, drums, min(0.5 + 0.15 * len({note.pitch for note in drums}), 3.0)))
    axes = figure.subplots(
        len(rows),
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [height for *_, height in rows]},
    )[:, 0].tolist()
    for ax, (draw, its_notes, _) in zip(axes, rows, strict=True):
        draw(ax, its_notes, midi)
        ax.set_xlim(0, end)
    _mark_bars(axes, bar_lines(midi, end), width_inches=width, end_seconds=end)
    if join_seconds is not None:
        _mark_join(axes, join_seconds)
    axes[-1].xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value // 60)}:{value % 60:02.0f}"))
    axes[-1].set_xlabel("time (minutes:seconds)")
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a title in any script is welcome
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def _draw_pitched(ax: Axes, notes: list[SoundingNote], midi: mido.MidiFile) -> None:
    """Bars at their pitch, one colour per track and channel."""
    parts: dict[tuple[int, int], list[SoundingNote]] = defaultdict(list)
    for note in notes:
        parts[note.track, note.channel].append(note)
    legend = []
    for number, ((track, channel), its_notes) in enumerate(sorted(parts.items())):
        colour = to_rgb(COLOURS[number % len(COLOURS)])
        boxes = [
            [
                (n.start, n.pitch - 0.45),
                (n.start, n.pitch + 0.45),
                (n.end, n.pitch + 0.45),
                (n.end, n.pitch - 0.45),
            ]
            for n in its_notes
        ]
        shades = [(*colour, 0.35 + 0.65 * n.velocity / 127) for n in its_notes]
        ax.add_collection(PolyCollection(boxes, facecolors=shades, edgecolors=shades, linewidths=0.4, zorder=2))
        name = " ".join((midi.tracks[track].name or "").split())[:24].replace("$", r"\$")
        legend.append(Patch(color=colour, label=name or f"track {track + 1}, channel {channel + 1}"))
    if 1 < len(legend) <= _MAX_LEGEND:
        ax.legend(handles=legend, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, frameon=False)
    pitches = [note.pitch for note in notes] or [60]
    lowest, highest = min(pitches) - 3, max(pitches) + 3
    ax.set_ylim(lowest, highest)
    octaves = range(-(-lowest // 12) * 12, highest + 1, 12)
    ax.set_yticks(list(octaves), [f"C{pitch // 12 - 1}" for pitch in octaves], fontsize=8)
    ax.grid(axis="y", color="#E8E8E8", linewidth=0.6, zorder=0)
    ax.set_axisbelow(True)
    ax.set_ylabel("pitch")


def _draw_drums(ax: Axes, notes: list[SoundingNote], midi: mido.MidiFile) -> None:
    """Ticks, one row per drum, the lowest key at the bottom, taller when louder."""
    keys = sorted({note.pitch for note in notes})
    rows = {key: row for row, key in enumerate(keys)}
    ticks = []
    for note in notes:
        row, half = rows[note.pitch], 0.15 + 0.3 * note.velocity / 127
        ticks.append([(note.start, row - half), (note.start, row + half)])
    ax.add_collection(LineCollection(ticks, colors="#333333", linewidths=0.9, zorder=2))
    ax.set_ylim(-0.7, len(keys) - 0.3)
    ax.set_yticks(range(len(keys)), [_DRUM_NAMES.get(key, f"key {key}") for key in keys], fontsize=6)
    ax.set_ylabel("drums")


def _mark_bars(axes: list[Axes], bars: list[float], *, width_inches: float, end_seconds: float) -> None:
    """A line at every bar, or at every second, fourth, … where they would crowd; numbers at some of them."""
    visible = [seconds for seconds in bars if seconds < end_seconds]
    if not visible:
        return
    step = 1
    while len(visible) / step > 8 * width_inches:
        step *= 2
    label_step = step
    while len(visible) / label_step > 1.6 * width_inches:
        label_step *= 2
    for index, seconds in enumerate(visible):
        if index % step == 0:
            for ax in axes:
                is_numbered = index % label_step == 0
                ax.axvline(seconds, color="#B0B0B0" if is_numbered else "#E0E0E0", linewidth=0.6, zorder=1)
        if index % label_step == 0:
            axes[0].annotate(
                str(index + 1),
                (seconds, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(2, -8),
                textcoords="offset points",
                fontsize=6,
                color="#707070",
            )


def _mark_join(axes: list[Axes], seconds: float) -> None:
    for ax in axes:
        ax.axvline(seconds, color="black", linewidth=1.5, zorder=4)
    axes[0].annotate(
        "new",
        (seconds, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="left",
        fontsize=9,
        fontweight="bold",
        annotation_clip=False,
    )
