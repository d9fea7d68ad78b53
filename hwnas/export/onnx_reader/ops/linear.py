"""Linear layers and matrix products."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode, is_traced, to_dtype_of
from hwnas.export.onnx_reader.registry import reads


@reads("Gemm")
def gemm(node: OnnxNode, left: Tensor, right: Tensor, more: Tensor | None = None) -> Tensor:
    """Compute ``alpha * left @ right + beta * more``, each operand transposed if stated."""
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    left = left.t() if node.integer("transA", 0) else left
    right = right if node.integer("transB", 0) else right.t()
    columns = right.shape[0]
    if more is not None and beta != 1:
        more = more * beta
    layer = is_traced(left) and not is_traced(right)
    if layer and (more is None or (not is_traced(more) and more.numel() in (1, columns))):
        weight = to_dtype_of(right if alpha == 1 else right * alpha, left)
        row_wise = more is None or more.dim() < 2 or more.shape[-1] == columns
        if row_wise:
            bias = None if more is None else to_dtype_of(more, left).reshape(-1).expand(columns)
            return F.linear(left, weight, bias)
    product = left @ to_dtype_of(right, left).t()
    product = product if alpha == 1 else product * alpha
    return product if more is None else product + more


@reads("MatMul")
def matmul(node: OnnxNode, left: Tensor, right: Tensor) -> Tensor:
    return torch.matmul(left, right)


@reads("com.microsoft.FusedMatMul")
def fused_matmul(node: OnnxNode, left: Tensor, right: Tensor) -> Tensor:
    if node.integer("transBatchA", 0) or node.integer("transBatchB", 0):
        node.refuse("transposes batches, which is not supported")
    left = left.transpose(-1, -2) if node.integer("transA", 0) else left
    right = right.transpose(-1, -2) if node.integer("transB", 0) else right
    alpha = node.number("alpha", 1.0)
    product = torch.matmul(left, right)
    return product if alpha == 1 else product * alpha


@reads("Einsum")
def einsum(node: OnnxNode, *values: Tensor) -> Tensor:
    return torch.einsum(node.text("equation", ""), *values)


@reads("Attention")
def attention(node: OnnxNode, query: Tensor, key: Tensor, value: Tensor, *more: Any) -> Tensor:
    """Compute attention of heads that are an axis of their own."""
    mask = more[0] if more else None
    heads = [t.dim() == 4 for t in (query, key, value)]
    if not all(heads) or any(v is not None for v in more[1:]) or node.number("softcap", 0.0):
        node.refuse("is only supported for 4 axes, without past keys, and without softcap")
    causal, scale = bool(node.integer("is_causal", 0)), node.attributes.get("scale")
    return F.scaled_dot_product_attention(query, key, value, mask, 0.0, causal, scale=scale)
