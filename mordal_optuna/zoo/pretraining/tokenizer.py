"""Training of the LLMs' tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BOS, EOS, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"
_MAX_LENGTH = 512


def train_tokenizer(
    texts: Iterable[str],
    vocabulary: int,
    *,
    split_digits: bool = False,
    phrases: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: training texts, without special tokens and without the phrases.
        vocabulary: size of the vocabulary before the phrases are added.
        split_digits: whether every digit is a separate token.
        phrases: texts that become one token each.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = by_bytes
    if split_digits:
        digits = pre_tokenizers.Split(Regex(" ?[0-9]"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, by_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS, UNKNOWN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if phrases:
        tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=_MAX_LENGTH,
    )
