"""OFA's two position biases: an absolute one, free of content and shared by all layers, and relative tables.

A bias is added to attention logits before masking. Tensors are [H, queries, keys], without a
batch axis: positions do not depend on the sample.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mue_edge.errors import UsageError

# The reference builds its token buckets for this length whatever the configuration says.
MAX_TOKENS = 1024


def token_buckets(length: int, bucket_size: int, device: torch.device | None = None) -> Tensor:
    """Rows of the token table for every pair of positions: int64 [L, L], 0 … 2 * bucket_size - 2.

    Distances up to half of `bucket_size` have a row each, larger ones share rows on a log scale.
    """
    mid = bucket_size // 2
    distance = torch.arange(-(length - 1), length, device=device)
    size = torch.where(distance.abs() < mid, mid - 1, distance.abs())
    # float32 and this order of operations: `ceil` makes the last bit of the logarithm matter.
    share = torch.log(size / mid) / math.log((MAX_TOKENS - 1) / mid)
    far = distance.sign() * (torch.ceil(share * (mid - 1)) + mid).long()
    buckets = torch.where(size <= mid, distance, far) + bucket_size - 1
    index = torch.arange(length, device=device)
    return buckets[index[:, None] - index[None, :] + length - 1]


def image_position_ids(height: int, width: int, bucket_size: int, device: torch.device | None = None) -> Tensor:
    """Row of the image position table for each patch, row-major: int64 [height * width]; 0 is not a patch."""
    rows = torch.arange(height, device=device)[:, None] * bucket_size
    return (rows + torch.arange(width, device=device) + 1).flatten()


def image_buckets(height: int, width: int, bucket_size: int, device: torch.device | None = None) -> Tensor:
    """Rows of the image table for every pair of patches: int64 [P, P] with P = height * width."""
    row = torch.arange(height, device=device).repeat_interleave(width)
    column = torch.arange(width, device=device).repeat(height)
    down = row[:, None] - row[None, :] + bucket_size - 1
    right = column[:, None] - column[None, :] + bucket_size - 1
    return down * (2 * bucket_size - 1) + right


def token_table_rows(bucket_size: int) -> int:
    return 2 * bucket_size - 1


def image_table_rows(bucket_size: int) -> int:
    """Every difference of two patches, and three rows that the reference keeps for a class token."""
    return int((2 * bucket_size - 1) ** 2 + 3)


def relative_bias(table: nn.Module, buckets: Tensor) -> Tensor:
    """[H, L, L] from a table [rows, H] and the rows of every pair [L, L]."""
    values: Tensor = table(buckets)
    return values.permute(2, 0, 1)


def projected(vectors: Tensor, linear: nn.Linear, heads: int) -> Tensor:
    """[H, L, w] of position vectors [L, d]."""
    x: Tensor = linear(vectors)
    return x.view(len(vectors), heads, -1).transpose(0, 1)


def absolute_bias(queries: Tensor, keys: Tensor, scale_factor: float) -> Tensor:
    """[H, Lq, Lk]: scaled products of `projected` positions [H, Lq, w] and [H, Lk, w]."""
    return torch.matmul(queries * (queries.shape[-1] * scale_factor) ** -0.5, keys.transpose(1, 2))


def image_position_vectors(
    table: nn.Embedding, height: int, width: int, bucket_size: int, orig_side: int | None
) -> Tensor:
    """Position vectors of the patches, before their norm: [height * width, d].

    With `orig_side` given, a grid of more than orig_side * orig_side patches is interpolated
    (bilinear) from the orig_side x orig_side one that was trained.
    """
    device = table.weight.device
    if orig_side is None or height * width <= orig_side * orig_side:
        vectors: Tensor = table(image_position_ids(height, width, bucket_size, device))
        return vectors
    trained = table(image_position_ids(orig_side, orig_side, bucket_size, device))
    grid = trained.T.reshape(1, -1, orig_side, orig_side)
    resized = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)
    return resized[0].flatten(1).T


def check_length(length: int, table: nn.Embedding, what: str) -> None:
    """Raise UsageError for a text that is longer than its position table."""
    limit = min(table.num_embeddings, MAX_TOKENS)
    if length > limit:
        raise UsageError(f"{what} of {length} tokens is longer than the {limit} that this model has positions for")
