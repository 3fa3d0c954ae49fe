"""Fitting the codec to recordings: first the books, then the network that makes sound of what the books say.

The network learns from envelopes and pitches as they come out of the quantiser, with as many books as chance decides,
so that it mends what coding spoils.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adaptgen.domains.speech.envelope import log_envelope, mel_bands
from adaptgen.domains.speech.pitch import dequantize_pitch, quantize_pitch, track_pitch
from adaptgen.domains.speech.quantizer import ResidualQuantizer
from adaptgen.domains.speech.sound import open_sound, read_mono
from adaptgen.domains.speech.source_filter import (
    HOP,
    NUM_BANDS,
    PER_FRAME,
    SAMPLE_RATE_HZ,
    SourceFilterCodec,
    envelope_bands,
)
from adaptgen.domains.speech.synthesis import Synthesizer, make_pulses
from adaptgen.errors import InputFileError

__all__ = ["fit_codec"]

NUM_BOOKS, BOOK_SIZE = 8, 1024
LEVELS_DB = (-3.0, 0.0, 3.0)
"""Recordings are also learned a little softer and louder than the level they are brought to."""
BATCH_SIZE, SEQUENCE_FRAMES = 12, 40
LEARNING_RATE, WARMUP_STEPS, LAST_SHARE = 7e-4, 100, 0.03
BOOK_CHOICES = (2, 3, 4, 5, 6, 7, 8, 8)
MAX_GRAD_NORM = 5.0
RESOLUTIONS = ((1024, 80, 256), (512, 64, 128), (256, 32, 64), (128, 16, 32))
"""Of the loss: size of the transform, mel bands, hop."""
THIRDS, LOWEST_THIRD_HZ, THIRDS_SIZE, THIRDS_HOP = 15, 150.0, 512, 128
SEGMENT_SECONDS, SEGMENT_STEP, SEGMENT_FLOOR = 0.384, 8, 1e-2
"""Of what the loss correlates: bands a third of an octave wide, over stretches of so many seconds. Those whose levels
change by no more than the floor count for less than half."""
INTELLIGIBILITY_WEIGHT = 1.0


@dataclass(frozen=True)
class Recording:
    """A recording and what is coded of it, a whole number of pairs of frames long."""

    samples: np.ndarray
    envelope: np.ndarray
    pitch_codes: np.ndarray


def fit_codec(
    paths: Sequence[Path],
    *,
    seed: int,
    network_steps: int,
    keep_books_of: SourceFilterCodec | None = None,
    num_books: int = NUM_BOOKS,
    book_size: int = BOOK_SIZE,
    on_progress: Callable[[str, int, int, str], None] = lambda stage, done, total, note: None,
    on_skipped: Callable[[Path, str], None] = lambda path, reason: None,
) -> SourceFilterCodec:
    """Fit a codec to sound files.

    Args:
        paths: the files.
        seed: decides where books and network begin and in which order they see what.
        network_steps: how long the network is trained; with 0 a new one is left out.
        keep_books_of: a codec whose books stay, so that the same samples give the same codes, and whose network, if
            it has one, stays too and is trained further.
        num_books, book_size: of the quantiser.
        on_progress: called with what is being done, how much is done, how much there is, and how it stands.
        on_skipped: called with a file that cannot be used, and why.

    Raises:
        InputFileError: no file can be used, or there is too little to learn from.
    """
    recordings = []
    for number, path in enumerate(paths, 1):
        try:
            recordings.append(_analyse(path))
        except InputFileError as error:
            on_skipped(path, error.problem.removeprefix(f"{path} "))
        on_progress("Reading", number, len(paths), "")
    if not recordings:
        count = f"{len(paths)} file{'s' * (len(paths) != 1)}"
        raise InputFileError(f"there is no recording that can be used among {count}", "Give recordings of a voice")
    pairs = sum(len(recording.envelope) for recording in recordings) // PER_FRAME
    if keep_books_of is None and pairs < book_size:
        seconds = pairs * PER_FRAME * HOP / SAMPLE_RATE_HZ
        needed = book_size * PER_FRAME * HOP / SAMPLE_RATE_HZ
        raise InputFileError(
            f"there are {seconds:.0f} s of speech, less than the {needed:.0f} s that {book_size} codes need",
            "Give more recordings",
        )
    if network_steps and all(len(recording.envelope) < SEQUENCE_FRAMES for recording in recordings):
        raise InputFileError(
            f"no recording is as long as {SEQUENCE_FRAMES * HOP / SAMPLE_RATE_HZ} s", "Give longer ones"
        )
    rng = np.random.default_rng(seed)
    if keep_books_of is not None:
        quantizer = keep_books_of.quantizer
    else:
        quantizer = ResidualQuantizer.fit(
            _vectors(recordings, rng),
            num_books=num_books,
            size=book_size,
            seed=seed,
            on_book=lambda book, left: on_progress("Learning books", book, num_books, f"{left:.4f} left"),
        )
    torch.manual_seed(seed)
    kept = None if keep_books_of is None else keep_books_of.synthesizer
    has_network = network_steps > 0 or (kept is not None and kept.network is not None)
    synthesizer = Synthesizer(num_bands=NUM_BANDS, hop=HOP, sample_rate_hz=SAMPLE_RATE_HZ, has_network=has_network)
    steps_before = 0
    if kept is not None and kept.network is not None:
        synthesizer.load_state_dict(kept.state_dict())
        steps_before = keep_books_of.about.get("network_steps", 0)
    if network_steps:
        _train(synthesizer, quantizer, recordings, rng, network_steps, on_progress)
    hours = pairs * PER_FRAME * HOP / SAMPLE_RATE_HZ / 3600
    about = {
        "seed": seed,
        "hours": round(hours, 3),
        "files": len(recordings),
        "network_steps": steps_before + network_steps,
    }
    return SourceFilterCodec(quantizer, synthesizer, about=about).rounded()


def _analyse(path: Path) -> Recording:
    samples, _ = read_mono(open_sound(path), sample_rate_hz=SAMPLE_RATE_HZ)
    samples = samples[: len(samples) // (PER_FRAME * HOP) * PER_FRAME * HOP]
    if not len(samples):
        raise InputFileError(f"{path} is shorter than a frame", "Give a longer recording")
    envelope = log_envelope(samples, envelope_bands(), hop=HOP)
    codes = quantize_pitch(*track_pitch(samples, hop=HOP, sample_rate_hz=SAMPLE_RATE_HZ))
    return Recording(samples.astype(np.float16), envelope, codes)


def _vectors(recordings: Iterable[Recording], rng: np.random.Generator) -> np.ndarray:
    """Pairs of envelopes `[n, 2 * NUM_BANDS]`, each recording at a level of its own."""
    shifts = np.log(10) / 20 * np.array(LEVELS_DB)
    return np.concatenate(
        [
            (recording.envelope + rng.choice(shifts)).astype(np.float32).reshape(-1, PER_FRAME * NUM_BANDS)
            for recording in recordings
        ]
    )


class IntelligibilityLoss(nn.Module):
    """How little the levels of bands, over a third of a second, go up and down together in two sounds; 0 to 2.

    Source: Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech", IEEE
    Trans. ASLP 19(7), 2011 (STOI). Here nothing is clipped, the rate is the codec's own, and stretches of silence count
    for little in place of being cut out.
    """

    def __init__(self) -> None:
        super().__init__()
        bins_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, THIRDS_SIZE // 2 + 1)
        centres = LOWEST_THIRD_HZ * 2 ** (torch.arange(THIRDS)[:, None] / 3)
        is_within = (bins_hz >= centres * 2 ** (-1 / 6)) & (bins_hz < centres * 2 ** (1 / 6))
        self.register_buffer("bands", is_within.float())
        self.register_buffer("window", torch.hann_window(THIRDS_SIZE))
        self.length = round(SEGMENT_SECONDS * SAMPLE_RATE_HZ / THIRDS_HOP)

    def forward(self, target: Tensor, result: Tensor) -> Tensor:
        """Of sounds `[B, n]` at least a segment long."""
        both = torch.stft(torch.cat([target, result]), THIRDS_SIZE, THIRDS_HOP, window=self.window, return_complex=True)
        levels = (self.bands @ (both.real**2 + both.imag**2) + 1e-7).sqrt()
        segments = levels.unfold(2, self.length, SEGMENT_STEP)
        segments = segments - segments.mean(dim=3, keepdim=True)
        norms = segments.norm(dim=3)
        wanted, given = (segments / norms[..., None].clamp(min=1e-6)).chunk(2)
        weights = norms.chunk(2)[0]
        weights = weights / (weights + SEGMENT_FLOOR)
        return (weights * (1 - (wanted * given).sum(dim=3))).sum() / weights.sum().clamp(min=1e-6)


class SpectralLoss(nn.Module):
    """How far two sounds are apart in mel spectra and in spectra, at several resolutions.

    Source: Yamamoto et al., "Parallel WaveGAN", arXiv:1910.11480, section 2.2, for the spectra; the mel spectra weigh
    twice as much.
    """

    def __init__(self) -> None:
        super().__init__()
        for number, (size, num_bands, _) in enumerate(RESOLUTIONS):
            self.register_buffer(f"bands_{number}", torch.from_numpy(mel_bands(num_bands, size, SAMPLE_RATE_HZ)))
            self.register_buffer(f"window_{number}", torch.hann_window(size))

    def forward(self, target: Tensor, result: Tensor) -> Tensor:
        mel, spectral = [], []
        for number, (size, _, hop) in enumerate(RESOLUTIONS):
            window, bands = getattr(self, f"window_{number}"), getattr(self, f"bands_{number}")
            both = torch.stft(torch.cat([target, result]), size, hop, window=window, return_complex=True)
            power = both.real**2 + both.imag**2 + 1e-7
            first, second = (0.5 * (bands @ power + 1e-5).log()).chunk(2)
            mel.append((first - second).abs().mean())
            if size > RESOLUTIONS[-1][0]:
                wanted, given = power.sqrt().chunk(2)
                convergence = (wanted - given).norm() / (wanted.norm() + 1e-3)
                logs = ((wanted + 1e-2).log() - (given + 1e-2).log()).abs().mean()
                spectral.append(convergence + 0.5 * logs)
        return 2 * sum(mel) / len(mel) + sum(spectral) / len(spectral)


def _train(
    synthesizer: Synthesizer,
    quantizer: ResidualQuantizer,
    recordings: list[Recording],
    rng: np.random.Generator,
    num_steps: int,
    on_progress: Callable[[str, int, int, str], None],
) -> None:
    """Train the network in place, by AdamW with a cosine schedule; some recording is as long as a sequence."""
    codes = [quantizer.encode(r.envelope.reshape(-1, PER_FRAME * NUM_BANDS)) for r in recordings]
    long_enough = [number for number, r in enumerate(recordings) if len(r.envelope) >= SEQUENCE_FRAMES]
    lengths = np.array([len(recordings[number].envelope) for number in long_enough], dtype=np.float64)
    spectral, intelligibility = SpectralLoss(), IntelligibilityLoss()
    optimizer = torch.optim.AdamW(synthesizer.parameters(), lr=LEARNING_RATE, betas=(0.8, 0.98), weight_decay=0)
    synthesizer.train()
    mean = None
    for step in range(num_steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / num_steps))
        rate = LEARNING_RATE * min(1, (step + 1) / WARMUP_STEPS) * (LAST_SHARE + (1 - LAST_SHARE) * cosine)
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = rng.choice(long_enough, size=BATCH_SIZE, p=lengths / lengths.sum())
        num_books = int(rng.choice(BOOK_CHOICES))
        target, *inputs = _batch([(recordings[i], codes[i]) for i in chosen], quantizer, num_books, rng)
        result = synthesizer(*inputs)
        loss = spectral(target, result) + INTELLIGIBILITY_WEIGHT * intelligibility(target, result)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(synthesizer.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        on_progress("Training the network", step + 1, num_steps, f"loss {mean:.3f}")
    synthesizer.eval()


def _batch(
    drawn: list[tuple[Recording, np.ndarray]], quantizer: ResidualQuantizer, num_books: int, rng: np.random.Generator
) -> list[Tensor]:
    """Random stretches: the recorded samples, and what the synthesizer is given for them."""
    columns: list[list[np.ndarray]] = [[] for _ in range(6)]
    for recording, codes in drawn:
        pair = int(rng.integers(0, codes.shape[1] - SEQUENCE_FRAMES // PER_FRAME + 1))
        pairs = slice(pair, pair + SEQUENCE_FRAMES // PER_FRAME)
        frames = slice(pairs.start * PER_FRAME, pairs.stop * PER_FRAME)
        samples = recording.samples[frames.start * HOP : frames.stop * HOP].astype(np.float32)
        envelope = quantizer.decode(codes[:num_books, pairs]).reshape(-1, NUM_BANDS)
        hz, strength = dequantize_pitch(recording.pitch_codes[frames])
        phase = rng.uniform(0, 2 * np.pi)
        pulses = make_pulses(hz, hop=HOP, sample_rate_hz=SAMPLE_RATE_HZ, phase=phase)
        noise = rng.standard_normal(len(samples), dtype=np.float32)
        for column, value in zip(columns, (samples, envelope, hz, strength, pulses, noise), strict=True):
            column.append(value)
    return [torch.from_numpy(np.stack(column)) for column in columns]
