"""Vision transformer on small images (Dosovitskiy et al. 2020, arXiv:2010.11929), pre-norm, without a class token.

Each patch becomes a token, plus a learned embedding of its position. A block computes x + attention(norm(x)), then x +
MLP(norm(x)), with GELU in an MLP of twice the width. The head reads the mean over tokens after a final norm.
arXiv:2502.20580, section on transformers: patch 4, width 384, depth 8, 8 heads on CIFAR-10.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.base import Data
from bench.errors import UsageError
from bench.models.base import Network


class Block(nn.Module):
    """Tokens (N, T, width) to tokens. qkv computes queries, keys and values of all heads at once.

    `dropout` acts on the attention weights, inside the MLP, and on what attention and MLP add to x. `drop_path` is the
    rate at which an example skips either (stochastic depth, Huang et al. 2016, arXiv:1603.09382).
    """

    def __init__(self, width: int, heads: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout, self.drop_path = nn.Dropout(dropout), nn.Dropout(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._branch(self.proj(self._attention(self.norm1(x))))
        return x + self._branch(self.down(self.dropout(F.gelu(self.up(self.norm2(x))))))

    def _attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=rate).transpose(1, 2).flatten(2)

    def _branch(self, x: Tensor) -> Tensor:
        kept = self.drop_path(x.new_ones(len(x), 1, 1))
        return self.dropout(x) * kept


class ViT(Network):
    """Labels block by block: qkv1, proj1, up1, down1, qkv2, ..., and head. The patch embedding sends no error down.

    A rank given as a number is tripled for qkv, which stands for three layers. Position embeddings start as a truncated
    normal of standard deviation 0.02; dropout also acts on the embedded patches. Raises `UsageError` for images that
    the patches do not tile, and for a width that the heads do not divide.
    """

    version = 1
    output_module = "head"

    def __init__(
        self,
        data: Data,
        patch: int = 4,
        width: int = 384,
        depth: int = 8,
        heads: int = 8,
        dropout: float = 0.1,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        channels, *size = data.train.inputs.shape[1:]
        if patch < 1 or any(side % patch for side in size):
            pixels = " x ".join(map(str, size))
            raise UsageError(f"model vit: patch {patch} does not divide images of {pixels} pixels; expected: a divisor")
        if heads < 1 or width < 1 or width % heads:
            raise UsageError(f"model vit: {heads} heads do not divide width {width}; expected: a divisor")
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        tokens = (size[0] // patch) * (size[1] // patch)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, drop_path) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, data.outputs)
        self.rank_factors = {f"qkv{number}": 3 for number in range(1, depth + 1)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = self.dropout(x + self.position)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))

    def feedback_layers(self) -> dict[str, str]:
        names = ("qkv", "proj", "up", "down")
        blocks = {f"{name}{i + 1}": f"blocks.{i}.{name}" for i in range(len(self.blocks)) for name in names}
        return blocks | {"head": "head"}


MODEL = ViT
