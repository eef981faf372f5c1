"""`nn.MultiheadAttention` under a learning rule."""

from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import UsageError
from bench.layers._function import Mapped
from bench.layers._registry import LAYERS
from bench.layers._rule_layer import RuleLayer
from bench.layers.watch import Watch
from bench.operators import LinearOperator


@dataclass(frozen=True)
class PackedOperator(LinearOperator):
    """The projections of query, key and value, whose weights are stacked, (3 out, in): one group each."""

    groups: int = 3

    @property
    def group(self) -> Any:
        return LinearOperator()


class MultiheadAttention(RuleLayer, nn.MultiheadAttention):
    """`nn.MultiheadAttention` under a learning rule.

    The projections of query, key and value have separate feedback, stacked along a leading dimension, and a rank
    applies to each; everything else is PyTorch's. `out_proj` is a separate layer.
    """

    plain = nn.MultiheadAttention
    MATRIX = "in_proj_weight"

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.in_proj_weight

    @staticmethod
    def operator_of(plain: Any) -> PackedOperator:
        if not plain._qkv_same_embed_dim:
            raise UsageError("kdim or vdim differ from embed_dim, so its weights are not packed")
        return PackedOperator()

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        masks: dict[str, Any] = {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask, "is_causal": is_causal}
        weights: dict[str, Any] = {"need_weights": need_weights, "average_attn_weights": average_attn_weights}
        if not torch.is_grad_enabled():
            return nn.MultiheadAttention.forward(self, query, key, value, **masks, **weights)
        turned = self.batch_first and query.ndim == 3
        if turned:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        call = _Call(self, len(query), query.shape[1] if query.ndim == 3 else 1, turned)
        heads = (self.embed_dim, self.num_heads)
        extra = (self.in_proj_bias, self.bias_k, self.bias_v, self.add_zero_attn, self.dropout)
        out = (call, self.out_proj.bias, self.training)
        output, attention = _attend(query, key, value, *heads, call, *extra, *out, **masks, **weights)
        return output.transpose(0, 1) if turned else output, attention

    def project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Query, key and value, each (..., E), through their projections."""
        function, one = self.function(), _Projection(self)
        unseen = self.watch is None or function is Mapped
        W = self.weight.chunk(3) if unseen else _Parts.apply(self.watch, self.weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        feedback = [tensor.unbind() for tensor in self.feedback.values()]
        return [
            function.apply(one, one.operator, x, part, bias, self.targets, *(tensors[n] for tensors in feedback))
            for n, (x, part, bias) in enumerate(zip((query, key, value), W, biases, strict=True))
        ]


@dataclass
class _Call:
    """A forward pass: replaces the weights in PyTorch's attention, whose inputs are (L, N, E).

    A layer with a rule receives (N, L, E) if the network has the examples first.
    """

    attention: MultiheadAttention
    length: int
    examples: int
    turned: bool

    def project(self, *inputs: Tensor) -> list[Tensor]:
        return [self._turn(y).contiguous() for y in self.attention.project(*map(self._turn, inputs))]

    def out(self, x: Tensor) -> Tensor:
        """The output projection of x (L N, E)."""
        y = self.attention.out_proj(self._turn(x.unflatten(0, (self.length, self.examples))))
        return self._turn(y).flatten(0, 1)

    def _turn(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1) if self.turned else x


class _Projection:
    """One of the three projections, in the form that the autograd function expects of a layer."""

    operator = LinearOperator()
    watch = None

    def __init__(self, attention: MultiheadAttention) -> None:
        self.attention = attention

    def __getattr__(self, name: str) -> Any:
        return getattr(self.attention, name)


class _Parts(torch.autograd.Function):
    """Splits a packed weight into three; the backward pass packs their gradients and reports them to the watch."""

    @staticmethod
    def forward(ctx: Any, watch: Watch, weight: Tensor) -> tuple[Tensor, ...]:
        ctx.watch = watch
        return weight.chunk(3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        packed = torch.cat(gradients)
        ctx.watch.add(packed)
        return None, packed


def _exchanged(function: Any, **names: Any) -> Any:
    """A copy of a PyTorch function in which some of the names it calls refer to other functions."""
    copy = FunctionType(function.__code__, function.__globals__ | names, argdefs=function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_attend = _exchanged(
    F.multi_head_attention_forward,
    has_torch_function=lambda tensors: False,
    _in_projection_packed=lambda query, key, value, call, bias: call.project(query, key, value),
    linear=lambda x, call, bias: call.out(x),
)
"""PyTorch's attention, with the projections computed by a `_Call` in place of the weights."""

LAYERS[nn.MultiheadAttention] = MultiheadAttention
