"""Write a random checkpoint whose tokenizer has a name for every row of the embedding.

    python fake.py llama-190m OUT

`chunkwise models fake` writes a byte tokenizer. Ours samples only tokens that the tokenizer has,
the peers sample all rows: with a byte tokenizer they would write different tokens, and ours would
have less to do.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from chunkwise.llm.models.fake import FAKES, byte_tokenizer, write_fake


def main(name: str, out: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_fake("tiny-llama", folder)  # for its tokenizer_config.json
        tokenizer = byte_tokenizer()
        full = json.loads(tokenizer.to_str())
        unused = range(tokenizer.get_vocab_size(), FAKES[name]["vocab_size"])
        full["model"]["vocab"] = {
            **tokenizer.get_vocab(),  # with the special tokens: no holes
            **{f"<|unused_{token}|>": token for token in unused},
        }
        Path(folder, "tokenizer.json").write_text(json.dumps(full), encoding="utf-8")
        write_fake(name, out, tokenizer=folder)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
