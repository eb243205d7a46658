# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Trains a byte-level BPE tokenizer that behaves like Mistral's: `<s>` in front, left padding, a dummy first space."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

UNKNOWN, START, END, PAD, IMAGE = "<unk>", "<s>", "</s>", "<pad>", "<image>"
TURN_START, TURN_END = "[INST]", "[/INST]"  # one token each, as in Mistral's newer tokenizers
SPECIAL_TOKENS = (UNKNOWN, START, END, PAD, IMAGE, TURN_START, TURN_END)
MAX_LENGTH = 512  # tokens


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048, lowercase: bool = False) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    Bytes that the texts do not hold are in the vocabulary all the same, so nothing is ever unknown. A space is put in
    front of every text, so that a word is the same token alone ("star") and within a sentence ("a star"): the short
    answers and class names of a small data set would otherwise have embeddings that nothing trained.

    Args:
        texts: Texts to learn merges from.
        vocab_size: Tokens, special ones included; at least 256 + the 7 special tokens.
        lowercase: Take upper for lower case, so that a small vocabulary holds more words.

    Returns:
        A fast tokenizer whose folder AutoTokenizer reads.

    Raises:
        ValueError: `vocab_size` has no room for the bytes.
    """
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size must be at least {smallest} (all bytes and the special tokens), not {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A $B", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
