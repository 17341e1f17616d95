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
    chunkwise ask "$question" --corpus demo-corpus --answerer extractive
done
echo
echo "These answers are verbatim sentences, chosen without a language model."
model=${CHUNKWISE_MODEL:-models/smollm2-135m}
if [ ! -e "$model/config.json" ] && ! sh scripts/get_model.sh "$model"
then
    echo "No language model is at hand: $model could not be fetched. Give the folder of any Llama, Mistral or"
    echo "Qwen checkpoint to have answers written by it, on this machine:  CHUNKWISE_MODEL=FOLDER make demo"
    exit 0
fi
question="How much did the battery pack cost?"
echo
echo "== $question  Written by $model, on this machine"
chunkwise ask "$question" --corpus demo-corpus --answerer generative --model "$model" \
    --set passages=3 --set budget_tokens=400
echo
echo "SmolLM2-135M is a very small model, made by Hugging Face: it often gets facts wrong. Give a better one with"
echo "CHUNKWISE_MODEL=FOLDER make demo, or ask your own: .venv/bin/chunkwise ask \"...\" --corpus demo-corpus --model FOLDER"
