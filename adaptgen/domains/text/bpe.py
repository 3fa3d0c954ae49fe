"""Byte-level byte-pair encoding, by the `tokenizers` library.

Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", arXiv:1508.07909, over bytes
and with the word pattern of GPT-2 (Radford et al., 2019).
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

__all__ = ["bytes_of_tokens", "learn_bpe", "read_bpe"]


def learn_bpe(texts: Iterable[str], *, num_tokens: int) -> Tokenizer:
    """Learn merges until there are so many tokens, the 256 bytes included, or nothing is left to merge."""
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bpe.decoder = ByteLevelDecoder()
    alphabet = sorted(ByteLevel.alphabet())
    bpe.train_from_iterator(texts, BpeTrainer(vocab_size=num_tokens, initial_alphabet=alphabet, show_progress=False))
    return bpe


def read_bpe(content: str) -> Tokenizer:
    """A tokenizer from its JSON.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # The library raises nothing more precise.
        raise ValueError(str(error)) from None


def bytes_of_tokens(bpe: Tokenizer) -> list[bytes]:
    """What each token stands for."""
    byte_of = _bytes_by_letter()
    names = sorted(bpe.get_vocab().items(), key=lambda item: item[1])
    return [bytes(byte_of[letter] for letter in name) for name, _ in names]


def _bytes_by_letter() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others for letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + index): byte for index, byte in enumerate(others)}
