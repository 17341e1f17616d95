"""One decoder for the Llama, Mistral and Qwen families: they differ by the flags of `ModelConfig`.

Rows of a step are packed; who sees what is said by the plan, so there is no prefill and no decode
here. All arithmetic is in `Kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from chunkwise.errors import ModelFormatError
from chunkwise.llm.kernels.ops import AttentionPlan, Kernels, Quantization, RotaryTable, Weight
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.checkpoint import Checkpoint

Tap = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called in each layer with (layer, q, k, v): `(rows, heads, head_dim)`, not rotated; what they
give to the segments is stored already."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer. `q_norm` and `k_norm` are None where the family has none."""

    input_norm: Tensor
    qkv: Weight
    q_norm: Tensor | None
    k_norm: Tensor | None
    o: Weight
    mlp_norm: Tensor
    gate_up: Weight
    down: Weight


class Stream(NamedTuple):
    """Rows between two layers: `(rows, hidden_size)` each.

    Attributes:
        x: What the next layer, or the head, reads: normed.
        residual: What it adds to.
    """

    x: Tensor
    residual: Tensor


class Decoder:
    """A decoder-only transformer.

    Args:
        config: Its shape.
        checkpoint: Its tensors, in Hugging Face's names.
        kernels: What computes; also packs the weights.
        dtype: Of weights and activations: bfloat16 or float32, whatever is stored.
        device: Where the weights go.
        quantization: How the matrices of the layers are stored.
        head_quantization: How the head is stored; None: int8 if the layers are quantised at all,
            since a decoded token reads the whole head, and at a small model that is a fifth to a
            third of all bytes. Never int4 by itself: it decides the token directly. A tied
            embedding stays in `dtype`, for its rows are looked up.

    Raises:
        ModelFormatError: A tensor is missing or has another shape.
    """

    def __init__(
        self,
        config: ModelConfig,
        checkpoint: Checkpoint,
        kernels: Kernels,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        quantization: Quantization = "none",
        head_quantization: Quantization | None = None,
    ) -> None:
        if dtype not in (torch.bfloat16, torch.float32):
            raise ModelFormatError(f"Models run in bfloat16 or float32, got {dtype!r}.")
        self.config, self.kernels, self.dtype = config, kernels, dtype
        self.device = torch.device(device)
        self.scale = config.head_dim**-0.5
        load = _Loader(checkpoint, kernels, dtype, self.device)
        if head_quantization is None:
            head_quantization = "none" if quantization == "none" else "int8"
        self.embedding, self.head = _ends(load, config, head_quantization)
        self.layers = [_layer(load, config, i, quantization) for i in range(config.num_layers)]
        self.norm = load.tensor("model.norm.weight", config.hidden_size)

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        kernels: Kernels,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        quantization: Quantization = "none",
        head_quantization: Quantization | None = None,
    ) -> Decoder:
        """The decoder in a Hugging Face folder; arguments and errors as of the class."""
        config = ModelConfig.from_folder(path)
        with Checkpoint(path) as checkpoint:
            return cls(
                config,
                checkpoint,
                kernels,
                dtype=dtype,
                device=device,
                quantization=quantization,
                head_quantization=head_quantization,
            )

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, shared ones counted once."""
        tensors = [self.norm, *_tensors(self.embedding), *_tensors(self.head)]
        for layer in self.layers:
            norms = (layer.input_norm, layer.mlp_norm, layer.q_norm, layer.k_norm)
            tensors += [norm for norm in norms if norm is not None]
            for weight in (layer.qkv, layer.o, layer.gate_up, layer.down):
                tensors += _tensors(weight)
        return sum({t.untyped_storage().data_ptr(): t.nbytes for t in tensors}.values())

    @torch.inference_mode()
    def forward(
        self,
        token_ids: Tensor,
        plan: AttentionPlan,
        rotary: RotaryTable,
        tap: Tap | None = None,
        *,
        depth: int | None = None,
    ) -> Tensor:
        """Compute the rows of one step; their keys and values go where the plan says.

        Args:
            token_ids: `(rows,)` int64.
            plan: Who writes where and who sees what.
            rotary: Of at least as many positions as the plan names.
            tap: Sees q, k and v of each layer.
            depth: Layers to run; None: all. Segments need no more layers than that.

        Returns:
            Hidden states after the last norm: `(rows, hidden_size)`.
        """
        layers = range(len(self.layers) if depth is None else min(depth, len(self.layers)))
        return self.through(layers, self.embedded(token_ids), plan, rotary, tap).x

    @torch.inference_mode()
    def embedded(self, token_ids: Tensor) -> Stream:
        """Rows before the first layer: `(rows,)` int64."""
        residual = self.kernels.gather_rows(self.embedding, token_ids)
        eps = self.config.rms_norm_eps
        return Stream(self.kernels.rms_norm(residual, self.layers[0].input_norm, eps), residual)

    @torch.inference_mode()
    def through(
        self,
        layers: range,
        stream: Stream,
        plan: AttentionPlan,
        rotary: RotaryTable,
        tap: Tap | None = None,
    ) -> Stream:
        """Compute rows through some layers; other arguments as of `forward`.

        Args:
            layers: Which, in a row.
            stream: The rows before the first of these; it may be overwritten.
            plan: Of these rows.
        """
        kernels, eps = self.kernels, self.config.rms_norm_eps
        kernels.prepare(plan)
        x, residual = stream
        after = [*(layer.input_norm for layer in self.layers[1:]), self.norm]
        for i in layers:
            layer = self.layers[i]
            x = self._attention(i, layer, x, plan, rotary, tap)
            x, residual = kernels.add_rms_norm(x, residual, layer.mlp_norm, eps)
            x = kernels.gated_linear(x, layer.gate_up)
            x = kernels.linear(x, layer.down)
            x, residual = kernels.add_rms_norm(x, residual, after[i], eps)
        return Stream(x, residual)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token: `(n, hidden_size)` to `(n, vocab_size)` float32."""
        return self.kernels.linear(hidden, self.head).float()

    def _attention(
        self,
        index: int,
        layer: Layer,
        x: Tensor,
        plan: AttentionPlan,
        rotary: RotaryTable,
        tap: Tap | None,
    ) -> Tensor:
        config, kernels = self.config, self.kernels
        heads = kernels.linear(x, layer.qkv).view(len(x), -1, config.head_dim)
        kv_heads = config.num_kv_heads
        q, k, v = torch.split(heads, [config.num_heads, kv_heads, kv_heads], dim=1)  # views
        if layer.q_norm is not None and layer.k_norm is not None:
            q = kernels.rms_norm(q, layer.q_norm, config.rms_norm_eps)
            k = kernels.rms_norm(k, layer.k_norm, config.rms_norm_eps)
        kernels.store(k, v, plan, index, rotary)
        if tap is not None:
            tap(index, q, k, v)
        window = config.windows[index]
        seen = kernels.attend(q, plan, index, rotary, scale=self.scale, window=window)
        return kernels.linear(seen.flatten(1), layer.o)


@dataclass(frozen=True, slots=True)
class _Loader:
    """Reads tensors into their final places; matrices that share an input become one."""

    checkpoint: Checkpoint
    kernels: Kernels
    dtype: torch.dtype
    device: torch.device

    def tensor(self, name: str, *shape: int) -> Tensor:
        return self.stacked([name], [shape[0]], *shape[1:])

    def stacked(self, names: Sequence[str], rows: Sequence[int], *shape: int) -> Tensor:
        whole = torch.empty(sum(rows), *shape, dtype=self.dtype, device=self.device)
        for name, part in zip(names, torch.split(whole, list(rows)), strict=True):
            self.checkpoint.read(name, part)
        return whole

    def linear(
        self,
        names: Sequence[str],
        rows: Sequence[int],
        columns: int,
        *,
        bias: bool,
        quantization: Quantization,
        gated: bool = False,
    ) -> Weight:
        weight = self.stacked([f"{name}.weight" for name in names], rows, columns)
        given = self.stacked([f"{name}.bias" for name in names], rows) if bias else None
        return self.kernels.pack(weight, given, quantization=quantization, gated=gated)


def _ends(load: _Loader, config: ModelConfig, quantization: Quantization) -> tuple[Weight, Weight]:
    """Embedding and head: one matrix in one form where they are tied and not quantised."""
    name, kernels = "lm_head.weight", load.kernels
    shape = config.vocab_size, config.hidden_size
    rows = load.tensor("model.embed_tokens.weight", *shape)
    if not config.tie_embeddings:
        head = kernels.pack(load.tensor(name, *shape), quantization=quantization)
        return Weight(*shape, dense=rows), head
    load.checkpoint.ignore([name])  # some checkpoints hold it twice
    head = kernels.pack(rows, quantization=quantization)
    return (head if quantization == "none" else Weight(*shape, dense=rows)), head


def _layer(load: _Loader, config: ModelConfig, index: int, quantization: Quantization) -> Layer:
    hidden, width, head = config.hidden_size, config.intermediate_size, config.head_dim
    q, kv = config.num_heads * head, config.num_kv_heads * head
    at = f"model.layers.{index}"

    def linear(
        names: str, rows: Sequence[int], columns: int, *, bias: bool, gated: bool = False
    ) -> Weight:
        paths = [f"{at}.{name}" for name in names.split()]
        return load.linear(paths, rows, columns, bias=bias, quantization=quantization, gated=gated)

    def head_norm(name: str) -> Tensor | None:
        return load.tensor(f"{at}.self_attn.{name}.weight", head) if config.qk_norm else None

    qkv = "self_attn.q_proj self_attn.k_proj self_attn.v_proj"
    return Layer(
        input_norm=load.tensor(f"{at}.input_layernorm.weight", hidden),
        qkv=linear(qkv, (q, kv, kv), hidden, bias=config.qkv_bias),
        q_norm=head_norm("q_norm"),
        k_norm=head_norm("k_norm"),
        o=linear("self_attn.o_proj", (hidden,), q, bias=config.o_bias),
        mlp_norm=load.tensor(f"{at}.post_attention_layernorm.weight", hidden),
        gate_up=linear(
            "mlp.gate_proj mlp.up_proj", (width, width), hidden, bias=config.mlp_bias, gated=True
        ),
        down=linear("mlp.down_proj", (hidden,), width, bias=config.mlp_bias),
    )


def _tensors(weight: Weight) -> list[Tensor]:
    held = (weight.dense, weight.bias, *weight.packed.values())
    return [tensor for tensor in held if isinstance(tensor, Tensor)]
