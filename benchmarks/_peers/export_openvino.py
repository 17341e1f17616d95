"""Export a Hugging Face folder for openvino.genai with its weights as they are (bfloat16).

    python export_openvino.py CHECKPOINT OUT

Runs in the OpenVINO environment of `peers.md`, which has the lines for int8 and int4 too. Not by
`optimum-cli`: unasked it compresses models of more than a billion weights, and its
`--weight-format fp32` stores bfloat16 as float32.
"""

from __future__ import annotations

import sys

from optimum.exporters.openvino.__main__ import main_export
from optimum.exporters.openvino.convert import export_tokenizer
from optimum.intel.openvino import OVConfig
from transformers import AutoTokenizer


def main(checkpoint: str, out: str) -> None:
    main_export(checkpoint, out, task="text-generation-with-past", ov_config=OVConfig(dtype="auto"))
    export_tokenizer(AutoTokenizer.from_pretrained(checkpoint), out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
