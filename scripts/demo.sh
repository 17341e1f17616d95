#!/bin/sh
# The demo: sample documents in, three cited answers out. Run by `make demo`.
set -eu
cd "$(dirname "$0")/.."
rm -rf demo-corpus
echo
echo "== Adding nine documents in nine formats: samples/"
chunkwise add samples --corpus demo-corpus
chunkwise ls --corpus demo-corpus
for question in \
    "How much did the battery pack cost?" \
    "How many bicycles may a ship carry?" \
    "Until when are passports kept as lost property?"
do
    echo
    echo "== $question"
    chunkwise ask "$question" --corpus demo-corpus
done
echo
echo "Answers are verbatim sentences: no language model is configured. Set one with --base-url and"
echo "--model, or ask your own: .venv/bin/chunkwise ask \"...\" --corpus demo-corpus"
