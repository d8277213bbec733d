"""Training of tokenizers."""

from __future__ import annotations

from mordal_optuna.zoo.pretraining.tokenizer import BOS, EOS, PAD, UNKNOWN, train_tokenizer

TEXTS = ["red square northwest 47", "blue circle southeast 12 47 47"] * 20


def test_special_tokens_come_first_and_texts_are_restored() -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    assert tokenizer.convert_tokens_to_ids([PAD, BOS, EOS, UNKNOWN]) == [0, 1, 2, 3]
    ids = tokenizer(f"{BOS}red square{EOS}", add_special_tokens=False).input_ids
    assert (ids[0], ids[-1]) == (1, 2)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "red square"
    assert len(tokenizer) <= 300


def test_digits_are_split_and_phrases_are_one_token() -> None:
    tokenizer = train_tokenizer(TEXTS, 300, split_digits=True, phrases=("USER:", " Answer now."))
    ids = tokenizer("USER: 47 Answer now.", add_special_tokens=False).input_ids
    assert [tokenizer.decode([token]) for token in ids] == ["USER:", " 4", "7", " Answer now."]
    joined = train_tokenizer(TEXTS, 300)(" 47", add_special_tokens=False).input_ids
    assert len(joined) == 1
