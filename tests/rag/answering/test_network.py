"""The reader's network: packed and padded attention are the same."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.answering import network
from chunkwise.rag.answering.network import NetworkShape, ReaderNetwork, attend_padded, padded_grid

SHAPE = NetworkShape(50, 32, 2, 4, 64, 40)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_padded_attention_equals_one_call_a_run(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    layer = ReaderNetwork(SHAPE).layers[0]
    windows = [[1] * length for length in lengths]
    packed = network.pack(windows, [1] * len(windows), torch.device("cpu"))
    qkv = torch.randn(sum(lengths), 96, requires_grad=True)
    wanted = layer._attend(qkv, packed.runs)
    found = attend_padded(qkv, padded_grid(packed.runs, qkv.device), layer.heads)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    weights = torch.randn_like(wanted)
    gradients = [torch.autograd.grad((one * weights).sum(), qkv)[0] for one in (wanted, found)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_a_window_does_not_depend_on_what_it_is_packed_with() -> None:
    torch.manual_seed(0)
    reader = ReaderNetwork(SHAPE).eval()
    windows = [[3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13], [14] * 9]
    together = network.pack(windows, [1] * 4, torch.device("cpu"))
    with torch.inference_mode():
        found = {}
        places = iter(together.order)
        for verdicts in reader(together):
            for spans, answers in zip(verdicts.spans, verdicts.answers, strict=True):
                found[next(places)] = spans, answers
        for i, window in enumerate(windows):
            (alone,) = reader(network.pack([window], [1], torch.device("cpu")))
            torch.testing.assert_close(found[i][0], alone.spans[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(found[i][1], alone.answers[0], atol=1e-5, rtol=1e-4)
