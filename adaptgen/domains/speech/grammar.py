"""Which frame of codes may come next: so many frames, each stream in its own time, none that is stuck, and no silence
for good."""

from __future__ import annotations

import numpy as np

from adaptgen.domains.base import Grammar
from adaptgen.domains.speech.tokenizer import ABSENT, NUM_SPECIAL, SpeechTokenizer

__all__ = ["SpeechGrammar"]

LONGEST_REPEAT_SECONDS = 1.0
"""How long a stream may hold one code: a buzz is no speech, and neither is silence for good."""

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.3, 1.0
"""Between these lies the longest pause that may be drawn, which is the longest within the prompt."""
SHORTEST_SOUND_SECONDS = 0.24
"""What ends a pause that was as long as may be."""


class SpeechGrammar(Grammar):
    """The rules for one continuation.

    A model of little speech falls silent easily and finds no way out, as after a pause there mostly was more pause. So
    a pause is no longer than the longest within the prompt, and is ended by some sound. The pauses at the prompt's ends
    are not within it; the one at the join is counted from where it began in the prompt.

    Its first frames hold what the delay has left over of the prompt, its last ones what the new codes leave over;
    the begin token, which begins another recording, ends it.

    Args:
        tokenizer: whose tokens are drawn.
        codes: `[K, T]` of the prompt.
        num_frames: how many new codes each stream gets.
    """

    def __init__(self, tokenizer: SpeechTokenizer, codes: np.ndarray, num_frames: int) -> None:
        self.tokenizer, self.num_frames = tokenizer, num_frames
        # What the delay leaves for after the join; `ABSENT` where new codes come.
        self.known = known = tokenizer.delay(codes)[:, codes.shape[1] :]
        rate = tokenizer.codec.frames_per_second
        *pauses, self._pause = _pauses(tokenizer.codec.is_quiet[codes[0]])
        shortest, longest = (round(rate * seconds) for seconds in (SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))
        # Nor is the first one counted, which may have begun before the prompt was heard.
        self._most_pause = min(max(shortest, *pauses[1:], 0), longest)
        self._least_sound, self._due_sound = round(rate * SHORTEST_SOUND_SECONDS), 0
        self._place, self._is_done = 0, False
        num_streams = len(known)
        self._held, self._times = np.full(num_streams, -1), np.zeros(num_streams, dtype=np.int64)
        self._most_times = max(1, int(LONGEST_REPEAT_SECONDS * rate))

    @property
    def _num_tokens(self) -> int:
        return self.num_frames + len(self.known) - 1

    @property
    def is_done(self) -> bool:
        return self._is_done

    @property
    def progress(self) -> float:
        return self._place / self._num_tokens if not self._is_done else 1.0

    def allowed(self) -> np.ndarray:
        sizes = self.tokenizer.vocab_sizes
        mask = np.zeros((len(sizes), max(sizes)), dtype=bool)
        if self._place == self._num_tokens:
            mask[:, self.tokenizer.begin] = True
            return mask
        for stream, size in enumerate(sizes):
            frame = self._place - stream
            if frame < 0:
                mask[stream, self.known[stream, self._place]] = True
            elif frame >= self.num_frames:
                mask[stream, ABSENT] = True
            else:
                mask[stream, NUM_SPECIAL:size] = True
                if self._times[stream] >= self._most_times and size > NUM_SPECIAL + 1:
                    mask[stream, self._held[stream]] = False
        if self._place < self.num_frames and (self._pause >= self._most_pause or self._due_sound):
            mask[0, NUM_SPECIAL : sizes[0]] &= ~self.tokenizer.codec.is_quiet
        return mask

    def accept(self, frame: np.ndarray) -> None:
        if self._place == self._num_tokens:
            self._is_done = True
            return
        self._times = np.where(frame == self._held, self._times + 1, 1)
        self._held = frame.copy()
        if self._place < self.num_frames:
            self._hear(bool(self.tokenizer.codec.is_quiet[frame[0] - NUM_SPECIAL]))
        self._place += 1

    def _hear(self, is_quiet: bool) -> None:
        if is_quiet:
            self._pause += 1
            return
        if self._pause >= self._most_pause:
            self._due_sound = self._least_sound
        self._pause, self._due_sound = 0, max(0, self._due_sound - 1)


def _pauses(is_quiet: np.ndarray) -> list[int]:
    """How long each pause is: the first and the last, which may be none, are those at the ends."""
    return [len(pause) for pause in "".join("q" if quiet else "s" for quiet in is_quiet).split("s")]
