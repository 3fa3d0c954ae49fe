"""What `adaptgen codec` does with recordings."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from adaptgen.domains.base import CodecTools
from adaptgen.domains.speech.codecs import DEFAULT_CODEC, load_codec
from adaptgen.domains.speech.fitting import fit_codec
from adaptgen.domains.speech.metrics import score_codec
from adaptgen.domains.speech.sound import open_sound, read_mono
from adaptgen.domains.speech.source_filter import SourceFilterCodec
from adaptgen.errors import CheckpointError, InputFileError, UsageError

__all__ = ["SpeechCodecTools"]

CODES = "codes"


class SpeechCodecTools(CodecTools):
    """Recordings as codes: one channel, at the codec's rate, in their own level."""

    def encode(self, path: Path, *, codec: str | None, weights: Path | None) -> bytes:
        chosen = load_codec(codec or DEFAULT_CODEC, weights=weights)
        samples, gain = read_mono(open_sound(path), sample_rate_hz=chosen.sample_rate_hz)
        about = {
            "codec": chosen.name,
            "fingerprint": chosen.fingerprint,
            "num_samples": str(len(samples)),
            "gain": repr(gain),
            "frames_per_second": repr(chosen.frames_per_second),
        }
        # safetensors writes arrays as they lie in memory.
        codes = np.ascontiguousarray(chosen.encode(samples).astype(np.uint16))
        return save({CODES: codes}, metadata=about)

    def decode(self, path: Path, *, weights: Path | None, num_codebooks: int | None) -> bytes:
        try:
            # What is no file the library calls no device.
            with path.open("rb"), safe_open(path, framework="numpy") as file:
                about, codes = file.metadata() or {}, file.get_tensor(CODES)
            name, fingerprint = about["codec"], about["fingerprint"]
            num_samples, gain = int(about["num_samples"]), float(about["gain"])
            if codes.ndim != 2 or not codes.size or codes.dtype.kind not in "iu" or not gain > 0 or num_samples < 1:
                raise ValueError("they are no whole numbers in streams of one length, or of no sound")
        except OSError as error:
            raise InputFileError(f"{path} cannot be read: {error.strerror or error}", "Check its name") from None
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputFileError(f"{path} holds no codes: {error}", "Make it with `adaptgen codec encode`") from None
        codec = load_codec(name, weights=weights)
        if codec.fingerprint != fingerprint:
            raise CheckpointError(
                f"{path} was made by the codec {fingerprint}, which is not {codec.fingerprint}",
                "Name its weights with --weights",
            )
        if num_codebooks is not None and not 1 <= num_codebooks <= len(codes):
            raise UsageError(f"--codebooks is {num_codebooks}", f"{path} has 1 to {len(codes)}")
        sizes = codec.codebook_sizes
        if len(codes) > len(sizes):
            raise InputFileError(f"{path} has {len(codes)} streams, the codec {name} {len(sizes)}", "Make it again")
        if (codes < 0).any() or (codes >= np.array(sizes[: len(codes)])[:, None]).any():
            raise InputFileError(f"{path} has a code that the codec {name} has not", "Make it again")
        codes = codes.astype(np.int64)
        samples = codec.decode(codes[:num_codebooks])[:num_samples] / np.float32(gain)
        buffer = io.BytesIO()
        soundfile.write(buffer, np.clip(samples, -1, 1), codec.sample_rate_hz, subtype="PCM_16", format="WAV")
        return buffer.getvalue()

    def score(self, path: Path, *, codec: str | None, weights: Path | None) -> list[dict[str, Any]]:
        chosen = load_codec(codec or DEFAULT_CODEC, weights=weights)
        samples, _ = read_mono(open_sound(path), sample_rate_hz=chosen.sample_rate_hz)
        return score_codec(chosen, samples)

    def fit(
        self,
        paths: Sequence[Path],
        folder: Path,
        *,
        seed: int,
        network_steps: int,
        keep_books: bool,
        on_progress: Callable[[str, int, int, str], None],
        on_skipped: Callable[[Path, str], None],
    ) -> dict[str, Any]:
        shipped = load_codec(DEFAULT_CODEC, weights=None)
        assert isinstance(shipped, SourceFilterCodec)
        fitted = fit_codec(
            paths,
            seed=seed,
            network_steps=network_steps,
            keep_books_of=shipped if keep_books else None,
            on_progress=on_progress,
            on_skipped=on_skipped,
        )
        fitted.save(folder)
        return {**fitted.about, "fingerprint": fitted.fingerprint}
