"""A BERT-family encoder over packed sequences: no padding anywhere.

All tokens of a batch stand in one matrix `(total_tokens, hidden)`: linear layers, norms and the
activation see no padding. Attention runs over each run of equal lengths as one batch. Sorted
by length, a large batch has few distinct lengths; a small one costs one call more a sequence.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chunkwise.errors import MissingDependencyError, ModelFormatError
from chunkwise.rag.embedding.folder import EncoderConfig

try:
    import torch
    import torch.nn.functional as F
    from safetensors import SafetensorError, safe_open
    from torch import Tensor
except ImportError as exc:
    raise MissingDependencyError(
        'The encoder needs torch and safetensors: `pip install "chunkwise[llm]"`.'
    ) from exc

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}

# DistilBERT's names, rewritten to BERT's.
_DISTIL = (
    ("transformer.layer.", "encoder.layer."),
    (".attention.q_lin.", ".attention.self.query."),
    (".attention.k_lin.", ".attention.self.key."),
    (".attention.v_lin.", ".attention.self.value."),
    (".attention.out_lin.", ".attention.output.dense."),
    (".sa_layer_norm.", ".attention.output.LayerNorm."),
    (".ffn.lin1.", ".intermediate.dense."),
    (".ffn.lin2.", ".output.dense."),
    (".output_layer_norm.", ".output.LayerNorm."),
)


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Tensor  # (out, in)
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: _Linear
    out: _Linear
    attention_norm: _Norm
    up: _Linear
    down: _Linear
    norm: _Norm


class BertEncoder:
    """Weights of an encoder, and its forward pass.

    Args:
        config: Its shape.
        weights: The `model.safetensors`.
        dtype: `torch.float32` or `torch.bfloat16`.

    Raises:
        ModelFormatError: A tensor is missing or has another shape, or an unknown activation.
    """

    def __init__(self, config: EncoderConfig, weights: Path, dtype: torch.dtype) -> None:
        if config.activation not in _ACTIVATIONS:
            raise ModelFormatError(
                f"{weights.parent}: activation {config.activation!r} is not supported; "
                f"supported are: {', '.join(_ACTIVATIONS)}."
            )
        self.config, self.dtype = config, dtype
        self._activation = _ACTIVATIONS[config.activation]
        tensors = _Tensors(weights, dtype)
        hidden = config.hidden
        self._words = tensors.get("embeddings.word_embeddings.weight", None, hidden)
        positions = tensors.get("embeddings.position_embeddings.weight", None, hidden)
        self._positions = positions[config.position_offset :]
        if config.model_type != "distilbert":
            types = tensors.get("embeddings.token_type_embeddings.weight", None, hidden)
            self._positions = self._positions + types[0]
        self._norm = tensors.norm("embeddings.LayerNorm", config)
        self._layers = [_layer(tensors, config, i) for i in range(config.layers)]

    @torch.inference_mode()
    def __call__(self, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
        """Last hidden states: one `(n, length, hidden)` for each run of equal lengths, in order.

        Args:
            sequences: Token ids with special tokens, none empty. Neighbours of equal length
                are computed together, so sort by length.
        """
        lengths = [len(sequence) for sequence in sequences]
        ids = torch.tensor(list(itertools.chain.from_iterable(sequences)))
        at = torch.cat([torch.arange(length) for length in lengths])
        x = self._norm(self._words[ids] + self._positions[at])  # (total_tokens, hidden)
        runs = [(length, len(list(run))) for length, run in itertools.groupby(lengths)]
        for layer in self._layers:
            x = layer.attention_norm(layer.out(self._attend(layer.qkv(x), runs)).add_(x))
            x = layer.norm(layer.down(self._activation(layer.up(x))).add_(x))
        sizes = [length * n for length, n in runs]
        split = zip(runs, torch.split(x, sizes), strict=True)
        return [part.view(n, length, -1) for (length, n), part in split]

    def _attend(self, qkv: Tensor, runs: list[tuple[int, int]]) -> Tensor:
        """Attention of every sequence to itself: `(total_tokens, 3 * hidden)` to `(…, hidden)`."""
        heads = self.config.heads
        parts = []
        for (length, n), part in zip(runs, torch.split(qkv, [k * n for k, n in runs]), strict=True):
            q, k, v = part.view(n, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(q, k, v)  # (n, heads, length, head_dim)
            parts.append(attended.transpose(1, 2).reshape(n * length, -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def fastest_dtype(config: EncoderConfig) -> tuple[torch.dtype, str]:
    """The faster of float32 and bfloat16 for this encoder on this machine, and the figures.

    Times the widest product of the model: some 50 ms. Only processors with bfloat16 arithmetic
    (AMX, AVX512-BF16, Arm BF16) are faster with it; elsewhere it is several times slower.
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(512, config.hidden, dtype=dtype)
        weight = torch.ones(config.intermediate, config.hidden, dtype=dtype)
        seconds[dtype] = min(_seconds(x, weight) for _ in range(5))
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    # A near tie goes to the exact one.
    best = torch.bfloat16 if ratio > 1.3 else torch.float32
    return best, f"bfloat16 is {ratio:.1f} times as fast as float32 here"


@torch.inference_mode()
def _seconds(x: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    F.linear(x, weight)
    return time.perf_counter() - start


class _Tensors:
    """The tensors of a file under BERT's names, whatever prefix they were saved with."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self._path, self._dtype = path, dtype
        try:
            with safe_open(str(path), framework="pt") as file:
                names = {name: _canonical(name) for name in file.keys()}  # noqa: SIM118
                self._tensors: dict[str, Tensor] = {
                    new: file.get_tensor(old) for old, new in names.items()
                }
        except (SafetensorError, OSError) as exc:
            raise ModelFormatError(f"{path} cannot be read: {exc}.") from exc

    def get(self, name: str, *shape: int | None) -> Tensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelFormatError(f"{self._path} has no tensor {name!r}.")
        if len(tensor.shape) != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
        ):
            raise ModelFormatError(
                f"{self._path}: {name!r} has shape {tuple(tensor.shape)}, config.json says {shape}."
            )
        return tensor.to(self._dtype)

    def norm(self, name: str, config: EncoderConfig) -> _Norm:
        weight = self.get(f"{name}.weight", config.hidden)
        return _Norm(weight, self.get(f"{name}.bias", config.hidden), config.eps)

    def linear(self, name: str, out: int, inner: int) -> _Linear:
        return _Linear(self.get(f"{name}.weight", out, inner), self.get(f"{name}.bias", out))


def _layer(tensors: _Tensors, config: EncoderConfig, index: int) -> _Layer:
    at, hidden = f"encoder.layer.{index}", config.hidden
    parts = [
        tensors.linear(f"{at}.attention.self.{part}", hidden, hidden)
        for part in ("query", "key", "value")
    ]
    return _Layer(
        qkv=_Linear(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])),
        out=tensors.linear(f"{at}.attention.output.dense", hidden, hidden),
        attention_norm=tensors.norm(f"{at}.attention.output.LayerNorm", config),
        up=tensors.linear(f"{at}.intermediate.dense", config.intermediate, hidden),
        down=tensors.linear(f"{at}.output.dense", hidden, config.intermediate),
        norm=tensors.norm(f"{at}.output.LayerNorm", config),
    )


def _canonical(name: str) -> str:
    name = re.sub(r"^(bert|roberta|distilbert|model|0\.auto_model|auto_model)\.", "", name)
    for theirs, ours in _DISTIL:
        name = name.replace(theirs, ours)
    # Old checkpoints call the parameters of a norm gamma and beta.
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )
