"""Where the model looks, for one document: averages, a picture, and a page to explore."""

from __future__ import annotations

import html
import io
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptgen.domains.base import Tokenizer
from adaptgen.model import DISTANCES, AttentionMap, Transformer, map_attention
from adaptgen.palette import COLOURS, SHADES

__all__ = ["Inspection", "depth_name", "inspect_document"]

TOKENS_PER_ROW = 160
NUM_LINKS = 8
"""Of each token, the frames that it looked at most."""
QUARTERS = ("easiest quarter", "second quarter", "third quarter", "hardest quarter")


@dataclass(frozen=True)
class Inspection:
    """An attention map and what its tokens are.

    Attributes:
        names: what each token is called.
        kinds: a coarse class of each token.
        heights: of each token that has one (a note its pitch), NaN for others.
        image: float `[M, T]`, a column for each token, such as of a spectrogram; None where there is none.
        map: of the attention that predicted each token.
    """

    names: list[str]
    kinds: list[str]
    heights: np.ndarray
    image: np.ndarray | None
    map: AttentionMap

    def averages(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Over all tokens, over each kind, and over quarters of the tokens by what they cost.

        Each: how many, mean nats, mean share of each depth, the mean depth, and the mean share of each distance.
        """
        kinds = np.array(self.kinds)
        costs = self.map.nats[1:]
        order = np.argsort(costs, kind="stable")
        quarter = np.empty(len(costs), dtype=int)
        quarter[order] = np.arange(len(costs)) * len(QUARTERS) // max(1, len(costs))
        return {
            "all": {"all tokens": self._average(np.ones(len(costs), dtype=bool))},
            "by_kind": {str(kind): self._average(kinds[1:] == kind) for kind in sorted(set(self.kinds[1:]))},
            "by_cost": {
                name: self._average(quarter == index) for index, name in enumerate(QUARTERS) if (quarter == index).any()
            },
        }

    def _average(self, chosen: np.ndarray) -> dict[str, Any]:
        shares = self.map.depth_shares[1:][chosen].mean(axis=0)
        distance_shares = self.map.distance_shares[1:][chosen].mean(axis=0)
        return {
            "tokens": int(chosen.sum()),
            "nats": float(self.map.nats[1:][chosen].mean()),
            "depth_shares": {str(depth): float(share) for depth, share in zip(self.map.depths, shares, strict=True)},
            "mean_depth": float(shares @ np.array(self.map.depths)),
            "distance_shares": {name: float(share) for name, share in zip(DISTANCES, distance_shares, strict=True)},
        }

    def tokens(self) -> list[dict[str, Any]]:
        """Each token with its cost, its shares by depth and by distance, and its links, for JSON."""
        rows = []
        for index, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            row: dict[str, Any] = {"token": name, "kind": kind}
            if not np.isnan(self.heights[index]):
                row["height"] = float(self.heights[index])
            if index:
                row["nats"] = round(float(self.map.nats[index]), 4)
                row["depth_shares"] = [round(float(share), 4) for share in self.map.depth_shares[index]]
                row["distance_shares"] = [round(float(share), 4) for share in self.map.distance_shares[index]]
                row["links"] = [
                    {"token": int(frame), "depth": int(depth), "weight": round(float(weight), 4)}
                    for frame, depth, weight in zip(
                        self.map.link_frames[index],
                        self.map.link_depths[index],
                        self.map.link_weights[index],
                        strict=True,
                    )
                    if frame >= 0
                ]
            rows.append(row)
        return rows

    def picture(self, *, title: str, max_tokens: int) -> bytes:
        """A PNG: rows of tokens, above a spectrogram, notes by pitch, or names; below, shares by depth and by distance.

        Of a single depth no share is drawn, and of a long document no more than its first `max_tokens`, which the
        title says: matplotlib takes minutes for more.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        length = min(len(self.names), max_tokens)
        if length < len(self.names):
            title += f" (the first {length:,} of {len(self.names):,} tokens)"
        num_rows = -(-length // TOKENS_PER_ROW)
        stacks = [("frames back", self.map.distance_shares, DISTANCES, SHADES)]
        if len(self.map.depths) > 1:
            labels = [depth_name(depth) for depth in self.map.depths]
            colours = [COLOURS[depth % len(COLOURS)] for depth in self.map.depths]
            stacks.insert(0, ("layer", self.map.depth_shares, labels, colours))
        height = 1.6 * (1 + len(stacks))
        figure = Figure(figsize=(16, height * num_rows + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, parse_math=False)
        grid = figure.subplots(num_rows * (1 + len(stacks)), 1, squeeze=False).reshape(num_rows, -1)
        for row, (above, *below) in enumerate(grid):
            place = np.arange(row * TOKENS_PER_ROW, min(length, (row + 1) * TOKENS_PER_ROW))
            self._draw_tokens(above, place)
            for panel, (name, shares, labels, colours) in zip(below, stacks, strict=True):
                drawn = np.nan_to_num(shares[place]).T
                panel.stackplot(place, drawn, colors=colours, labels=labels, step="mid", linewidth=0)
                panel.set_ylabel(name)
                panel.set_ylim(0, 1)
                if row == 0:
                    panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(labels), fontsize="small")
            for panel in (above, *below):
                panel.set_xlim(row * TOKENS_PER_ROW - 0.5, row * TOKENS_PER_ROW + min(length, TOKENS_PER_ROW) - 0.5)
        grid[-1, -1].set_xlabel("token")
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in any script is welcome
            figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()

    def _draw_tokens(self, axes: Any, place: np.ndarray) -> None:
        if self.image is not None:
            extent = (place[0] - 0.5, place[-1] + 0.5, 0, len(self.image))
            axes.imshow(self.image[:, place], origin="lower", aspect="auto", extent=extent, cmap="magma")
            axes.set_ylabel("mel band")
            return
        heights = self.heights[place]
        costs = np.nan_to_num(self.map.nats[place])
        if np.isfinite(self.heights).any():
            axes.scatter(place, heights, c=costs, cmap="viridis", s=14, vmin=0)
            axes.set_ylabel("pitch")
            return
        axes.bar(place, costs, color="#BBBBBB", width=1.0)
        for index in place:
            axes.text(index, 0, self.names[index][:3].replace("$", r"\$"), ha="center", va="bottom", fontsize=6)
        axes.set_ylabel("nats")

    def page(self, *, title: str) -> bytes:
        """A self-contained HTML page: hover a token, and what it was drawn from lights up, in the colour of a depth."""
        content = {"tokens": self.tokens(), "depths": self.map.depths, "colours": COLOURS, "distances": DISTANCES}
        data = json.dumps(content)
        # A script ends at "</script", whatever quotes it stands in.
        data = data.replace("<", "\\u003c")
        parts = {"TITLE": html.escape(title), "DATA": data}
        return re.sub("|".join(parts), lambda found: parts[found[0]], PAGE).encode()


def depth_name(depth: int) -> str:
    """What a reader calls a depth: 0 is the embedding, i the output of block i."""
    return "embedding" if depth == 0 else f"block {depth}"


def inspect_document(
    model: Transformer,
    tokens: np.ndarray,
    tokenizer: Tokenizer,
    *,
    on_progress: Callable[[int], None] = lambda num_frames: None,
) -> Inspection:
    """Look at a document int `[K, T]`, T >= 2, with a shortcut model; `on_progress` as of `map_attention`."""
    return Inspection(
        names=tokenizer.describe(tokens),
        kinds=tokenizer.kinds_of(tokens),
        heights=tokenizer.heights_of(tokens),
        image=tokenizer.image_of(tokens),
        map=map_attention(model, tokens, num_links=NUM_LINKS, on_progress=on_progress),
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<style>
body { font: 15px/1.7 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
#tokens { white-space: pre-wrap; font-family: ui-monospace, monospace; font-size: 13px }
#tokens span { padding: 1px 0; border-radius: 3px; border-bottom: 3px solid transparent }
#tokens.names span { margin-right: 4px }
#roll { width: 100%; background: #fafafa; border: 1px solid #ddd; overflow-x: auto }
#bar { display: flex; height: 1.2rem; margin: .3rem 0 1rem }
#note { position: sticky; top: 0; background: #fffc; padding: .4rem 0; min-height: 4.6rem }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }
</style></head><body>
<h1>TITLE</h1>
<p>Hover a token. Lit up is what the last block attended to when it predicted it; the colour is the layer read most
there. <span id="legend"></span></p>
<div id="note">&nbsp;</div>
<div id="roll" hidden></div>
<div id="tokens"></div>
<script>
const data = DATA;
const colour = depth => data.colours[depth % data.colours.length];
const label = depth => depth === 0 ? 'embedding' : 'block ' + depth;
const legend = document.getElementById('legend'), note = document.getElementById('note');
for (const depth of data.depths) {
  const key = document.createElement('span');
  key.className = 'key'; key.style.background = colour(depth);
  legend.append(key, label(depth));
}
const flow = document.getElementById('tokens'), roll = document.getElementById('roll');
const isText = data.tokens.every(token => token.height === undefined);
if (!isText) flow.className = 'names';
const marks = data.tokens.map((token, index) => {
  const span = document.createElement('span');
  span.textContent = token.token;
  span.addEventListener('mouseenter', () => show(index));
  if (token.kind === 'Bar') flow.append('\\n');
  flow.append(span);
  return [span];
});
if (!isText) {
  const noted = data.tokens.map((token, index) => [token, index]).filter(([token]) => token.height !== undefined);
  const low = Math.min(...noted.map(([token]) => token.height)), high = Math.max(...noted.map(([t]) => t.height));
  const svgName = 'http://www.w3.org/2000/svg', step = 7, grain = 5;
  const svg = document.createElementNS(svgName, 'svg');
  svg.setAttribute('width', noted.length * step + 10);
  svg.setAttribute('height', (high - low + 3) * grain);
  noted.forEach(([token, index], place) => {
    const mark = document.createElementNS(svgName, 'rect');
    mark.setAttribute('x', 5 + place * step); mark.setAttribute('y', (high - token.height + 1) * grain);
    mark.setAttribute('width', step - 1); mark.setAttribute('height', grain);
    mark.setAttribute('fill', '#999');
    mark.addEventListener('mouseenter', () => show(index));
    marks[index].push(mark);
    svg.append(mark);
  });
  roll.append(svg); roll.hidden = false;
}
function paint(index, tint, weight) {
  const [span, mark] = marks[index];
  span.style.background = tint === null ? '' : tint + Math.round(40 + 215 * Math.min(1, weight)).toString(16);
  if (mark) mark.setAttribute('fill', tint === null ? '#999' : tint);
}
let lit = [];
function show(index) {
  for (const place of lit) paint(place, null, 0);
  marks.forEach(([span]) => { span.style.borderBottomColor = 'transparent'; });
  const token = data.tokens[index];
  marks[index][0].style.borderBottomColor = '#222';
  lit = [];
  if (!token.links) { note.textContent = token.token + ': given'; return; }
  for (const link of token.links) { paint(link.token, colour(link.depth), 3 * link.weight); lit.push(link.token); }
  note.textContent = '';
  const line = document.createElement('div'), bar = document.createElement('div');
  const back = token.distance_shares.map((share, place) => `${data.distances[place]}: ${Math.round(100 * share)} %`);
  line.textContent = `${token.token} cost ${token.nats} nats; frames back ${back.join(', ')}`;
  bar.id = 'bar';
  token.depth_shares.forEach((share, place) => {
    const part = document.createElement('div');
    part.style.flex = share; part.style.background = colour(data.depths[place]);
    part.title = label(data.depths[place]) + ' ' + share;
    bar.append(part);
  });
  note.append(line, bar);
}
</script></body></html>
"""
