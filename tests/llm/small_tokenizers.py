"""Two small tokenizers built with the real library: GPT-2's way and Llama 2's."""

import functools

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog. STOP the fox, stop the dog!",
    "Straße, naïve café, Ærøskøbing; 東京都で会いましょう 😀👍🏽 family 👨‍👩‍👧 done.",
    "one two three\n\n  indented   text\tand tabs  ",
]


@functools.cache
def byte_level() -> Tokenizer:
    """GPT-2's way: every token is some bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=alphabet,
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@functools.cache
def sentence_piece() -> Tokenizer:
    """Llama 2's way: spaces are ▁, unknown characters are bytes, the first space is dropped."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    words = [*"TthequickSOPopfxdglazyé.,!", "fo", "fox", "op", "ST"]
    vocab = {piece: i for i, piece in enumerate([*pieces, *words, "▁f", "▁fox", "▁▁", "▁S"])}
    merges = [("f", "o"), ("fo", "x"), ("o", "p"), ("S", "T"), ("▁", "f"), ("▁", "fox")]
    merges += [("▁", "▁"), ("▁", "S")]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def byte_letter(byte: int) -> str:
    """How GPT-2's alphabet writes a byte."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in visible:
        return chr(byte)
    return chr(256 + [b for b in range(256) if b not in visible].index(byte))
