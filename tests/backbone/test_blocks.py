"""Attention: what the equations say, in whatever order of memory, with and without gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_genselfdiff.backbone.blocks import Attention, LinearAttention

DIM, HEADS, WIDTH = 16, 2, 4


def heads_of(block: LinearAttention | Attention, x: torch.Tensor) -> list[list[torch.Tensor]]:
    """Queries, keys and values ``(N, WIDTH)`` of every head of the only image, one by one."""
    rows = block.qkv(block.norm(x))[0].flatten(1).T
    return [
        [rows[:, (part * HEADS + head) * WIDTH :][:, :WIDTH] for part in range(3)]
        for head in range(HEADS)
    ]


def slow_linear(block: LinearAttention, x: torch.Tensor) -> torch.Tensor:
    """Shen et al. 2021: softmax over channels for queries, over positions for keys."""
    mixed = []
    for q, k, v in heads_of(block, x):
        weights = k.exp() / k.exp().sum(dim=0)
        context = sum(torch.outer(w, row) for w, row in zip(weights, v, strict=True))
        mixed.append((q.exp() / q.exp().sum(dim=1, keepdim=True)) @ context / WIDTH**0.5)
    answer: torch.Tensor = x + block.out_norm(
        block.out(torch.cat(mixed, dim=1).T.reshape(1, -1, *x.shape[2:]))
    )
    return answer


def slow_full(block: Attention, x: torch.Tensor) -> torch.Tensor:
    """Vaswani et al. 2017: every position asks every other."""
    mixed = []
    for q, k, v in heads_of(block, x):
        scores = (q @ k.T / WIDTH**0.5).exp()
        mixed.append(scores / scores.sum(dim=1, keepdim=True) @ v)
    answer: torch.Tensor = x + block.out(torch.cat(mixed, dim=1).T.reshape(1, -1, *x.shape[2:]))
    return answer


@pytest.mark.parametrize(("kind", "slow"), [(LinearAttention, slow_linear), (Attention, slow_full)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("learning", [True, False])
def test_attention_is_what_its_equations_say(
    kind: type[nn.Module], slow: object, order: torch.memory_format, learning: bool
) -> None:
    torch.manual_seed(3)
    block = kind(DIM, heads=HEADS, head_dim=WIDTH)
    x = torch.randn(1, DIM, 3, 5).contiguous(memory_format=order)
    before = x.clone()
    with torch.set_grad_enabled(learning):
        found = block(x)
    assert torch.equal(x, before), "what others read was written over"
    torch.testing.assert_close(found, slow(block, x), atol=1e-5, rtol=1e-5)  # type: ignore[operator]
