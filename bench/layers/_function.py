"""The autograd function of a layer under a rule."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.errors import UsageError
from bench.layers.direct import Told
from bench.operators import Operator
from bench.rules.base import Signals

if TYPE_CHECKING:
    from bench.layers import RuleLayer


class Mapped(torch.autograd.Function):
    """y = W x + b forward; in the backward pass dW and db are exact and the rule decides the rest.

    The backward pass is computed in the weight's dtype, whatever dtype autocast uses in either pass.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        """Arguments: the layer, its operator, x, W, bias, targets and feedback tensors."""
        _, operator, x, W, bias, *_ = inputs
        return operator.apply(operator.canonical(W), x, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        layer, operator, x, W, _, targets, *feedback = inputs
        ctx.layer, ctx.operator = layer, operator
        ctx.save_for_backward(x, W, targets, *feedback)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch._C._is_any_autocast_enabled():
            with torch.autocast(g.device.type, enabled=False):
                return _backward(ctx, g)
        return _backward(ctx, g)


class Unmapped(Mapped):
    """The same when `torch.func` is not active. For the other form, PyTorch inspects the arguments at every call.

    In a step that fills the cache, that costs a tenth of a millisecond per layer.
    """

    setup_context = torch.autograd.Function.setup_context

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = Mapped.forward(*inputs)
        Mapped.setup_context(ctx, inputs, output)
        if output._is_view():  # later code may not modify a view from a custom function in place
            output = torch.ops.aten._unsafe_view(output, output.shape)
        return output

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        gradients = Mapped.backward(ctx, g)
        if ctx.layer.watch is not None and gradients[3] is not None:
            ctx.layer.watch.add(gradients[3])
        return gradients


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    layer: RuleLayer = ctx.layer
    operator: Operator = ctx.operator
    x, W, targets, *tensors = ctx.saved_tensors
    if torch.is_grad_enabled():  # in a double backward pass the feedback is a constant, as the weights are
        tensors = [tensor.detach() for tensor in tensors]
    feedback = dict(zip(layer.feedback, tensors, strict=True))
    fixed = {name for name, asked in zip(feedback, ctx.needs_input_grad[6:], strict=True) if not asked}
    if not torch._C._are_functorch_transforms_active():  # which may map over layers of which some learn theirs
        fixed |= layer.fixed
    g, x = g.to(W.dtype), x.to(W.dtype)
    if not g.numel() or not x.numel():
        learning = (None if name in fixed else torch.zeros_like(tensor) for name, tensor in feedback.items())
        db = g.new_zeros(operator.rows(g).shape[1]) if ctx.needs_input_grad[4] else None
        return None, None, torch.zeros_like(x), torch.zeros_like(W), db, None, *learning
    seen, shape = operator.canonical(W), x.shape
    seen = seen if layer.unwatched else seen.detach()
    direct = None if layer.source is None else layer.source.heard_by(layer, ctx, x, targets).to(W.dtype)
    if direct is not None and direct.ndim > 2:
        direct, g, x = (tensor.flatten(0, -2) for tensor in (direct, g, x))
    if isinstance(layer.source, Told):
        targets, direct = direct, None
    elif layer.rule.told is None:
        targets = None
    elif targets is not None and targets.shape != (rows := operator.rows(g).shape):
        raise UsageError(f"targets of shape {tuple(targets.shape)}; expected: {tuple(rows)}, those of this batch")
    signals = Signals(operator, seen, x, g, targets, direct, fixed)
    sent, gradients = layer.respond(signals, feedback)
    if disputed := gradients.keys() & fixed & layer.fixed:
        named = ", ".join(sorted(disputed))
        raise UsageError(f"{type(layer.rule).__name__} declares {named} fixed but returns a gradient for it")
    if layer.clip is not None:
        sent = sent.clamp(-layer.clip, layer.clip)
    dW = operator.native(signals.dW) if ctx.needs_input_grad[3] else None
    db = operator.rows(g).sum(0) if ctx.needs_input_grad[4] else None
    return None, None, sent.view(shape), dW, db, None, *(gradients.get(name) for name in feedback)
