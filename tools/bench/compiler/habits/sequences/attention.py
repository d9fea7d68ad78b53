"""Attention over tokens: rotary and relative positions, masks, encoders."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("rotary attention with a causal mask", (12, 32))
class Rotary(nn.Module):
    """Rotary embeddings from buffers, heads by view, torch's own causal attention."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96, bias=False), nn.Linear(32, 32, bias=False)
        inverse = 1.0 / (10000 ** (torch.arange(0, 8, 2).float() / 8))
        self.register_buffer("inv_freq", inverse, persistent=False)

    def rotate_half(self, x: Tensor) -> Tensor:
        x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return torch.cat((-x2, x1), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.size()
        q, k, v = self.qkv(x).split(c, dim=2)
        q, k, v = (y.view(b, t, 4, c // 4).transpose(1, 2) for y in (q, k, v))
        freqs = torch.einsum(
            "i,j->ij", torch.arange(t, device=x.device).type_as(self.inv_freq), self.inv_freq
        )
        emb = torch.cat((freqs, freqs), dim=-1)
        cos, sin = emb.cos()[None, None], emb.sin()[None, None]
        q, k = q * cos + self.rotate_half(q) * sin, k * cos + self.rotate_half(k) * sin
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).contiguous().view(b, t, c))


@CASES.add("rotary by complex numbers", (8, 16))
class ComplexRotary(nn.Module):
    """As in Llama's first release: pairs as complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        freqs = torch.outer(torch.arange(8), 1.0 / 100 ** (torch.arange(0, 16, 2) / 16))
        self.register_buffer("freqs", torch.polar(torch.ones_like(freqs), freqs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.freqs).flatten(2)


@CASES.add("token model with tied weights", "10:int64")
class TinyGpt(nn.Module):
    """Embedding + learnt positions, pre-norm block, masked_fill with tril, tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(20, 16), nn.Embedding(16, 16)
        self.ln_1, self.ln_2, self.ln_f = nn.LayerNorm(16), nn.LayerNorm(16), nn.LayerNorm(16)
        self.attn, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(approximate="tanh"), nn.Linear(64, 16))
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.wte.weight
        self.register_buffer("bias", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))

    def forward(self, idx: Tensor) -> Tensor:
        b, t = idx.size()
        assert t <= 16
        pos = torch.arange(0, t, dtype=torch.long, device=idx.device).unsqueeze(0)
        x = self.wte(idx) + self.wpe(pos)
        q, k, v = self.attn(self.ln_1(x)).split(16, dim=2)
        q, k, v = (y.view(b, t, 2, 8).transpose(1, 2) for y in (q, k, v))
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))
        y = (F.softmax(att, dim=-1) @ v).transpose(1, 2).contiguous().view(b, t, 16)
        x = x + self.proj(y)
        x = x + self.mlp(self.ln_2(x))
        return self.head(self.ln_f(x))


@CASES.add("bert with an attention mask", {"ids": "9:int64", "mask": "9:int64"})
class Bert(nn.Module):
    """The mask of 0 and 1 becomes (1 - mask) * min, and weights the mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(30, 16, padding_idx=0), nn.Embedding(2, 16)
        self.norm = nn.LayerNorm(16, eps=1e-12)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = torch.ones_like(ids)
        x = self.norm(self.words(ids) + self.types(torch.zeros_like(ids)))
        extended = mask[:, None, None, :].to(dtype=x.dtype)
        extended = (1.0 - extended) * torch.finfo(x.dtype).min
        q, k, v = (
            layer(x).view(*x.shape[:-1], 4, 4).permute(0, 2, 1, 3)
            for layer in (self.q, self.k, self.v)
        )
        probs = nn.functional.softmax(q @ k.transpose(-1, -2) / 2.0 + extended, dim=-1)
        x = x + (probs @ v).permute(0, 2, 1, 3).flatten(2)
        weights = mask.unsqueeze(-1).expand(x.size()).float()
        pooled = torch.sum(x * weights, 1) / torch.clamp(weights.sum(1), min=1e-9)
        return F.normalize(pooled, p=2, dim=1)


@CASES.add("torch's encoder with a padding mask", {"x": (7, 16), "padding": "7:bool"})
class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            16, 4, 32, activation="gelu", batch_first=True, norm_first=False
        )
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        keep = torch.zeros_like(padding)
        keep[:, :1] = True
        return self.encoder(x, src_key_padding_mask=padding & ~keep)


@CASES.add("torch's encoder, sequence first, causal", (6, 16))
class SequenceFirst(nn.Module):
    """Batch in the second axis, a generated square mask, positions as a buffer [T, 1, C]."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False)
        self.register_buffer("pe", torch.randn(20, 1, 16))

    def forward(self, src: Tensor) -> Tensor:
        src = src.transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(len(src))
        return self.encoder(src + self.pe[: src.size(0)], mask, is_causal=True).transpose(0, 1)


@CASES.add("cross attention with weights", {"query": (3, 12), "memory": (5, 8)})
class CrossAttention(nn.Module):
    """Keys and values of other widths, a bias for keys, averaged weights as a second output."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(
            12, 3, kdim=8, vdim=8, add_bias_kv=True, batch_first=True
        )

    def forward(self, query: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        out, weights = self.attend(query, memory, memory)
        return out, weights


@CASES.add("relative positions by shifting", (6, 12))
class TransformerXl(nn.Module):
    """The pad, view and slice of Transformer-XL."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.r, self.k = (nn.Linear(12, 12) for _ in range(3))
        self.register_buffer("pos", torch.randn(6, 12))

    def forward(self, x: Tensor) -> Tensor:
        q, k, r = self.q(x), self.k(x), self.r(self.pos)
        bd = torch.einsum("bic,jc->bij", q, r)
        padded = torch.cat((bd.new_zeros(bd.shape[0], bd.shape[1], 1), bd), dim=2)
        bd = padded.view(bd.shape[0], bd.shape[2] + 1, bd.shape[1])[:, 1:].view_as(bd)
        scores = torch.einsum("bic,bjc->bij", q, k) + bd
        mask = torch.triu(torch.ones(6, 6, dtype=torch.bool), diagonal=1)
        return torch.softmax(scores.masked_fill(mask, -1e4) / 12**0.5, -1) @ x


@CASES.add("t5 buckets", (7, 8))
class T5Bias(nn.Module):
    """Relative positions in logarithmic buckets, looked up in an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Embedding(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        t = x.shape[1]
        relative = torch.arange(t)[None, :] - torch.arange(t)[:, None]
        buckets = (relative > 0).to(torch.long) * 4
        n = torch.abs(relative)
        large = 2 + (torch.log(n.float().clamp(min=1) / 2) / math.log(8) * 2).to(torch.long)
        buckets = buckets + torch.where(n < 2, n, torch.min(large, torch.full_like(large, 3)))
        values = self.bias(buckets).permute(2, 0, 1).unsqueeze(0)
        heads = x.view(x.shape[0], t, 2, 4).transpose(1, 2)
        scores = torch.matmul(heads, heads.transpose(3, 2)) + values
        out = nn.functional.softmax(scores.float(), dim=-1).type_as(scores) @ heads
        return out.transpose(1, 2).reshape(x.shape[0], -1, 8)


@CASES.add("linear attention with cumulative sums", (10, 8))
class LinearAttention(nn.Module):
    """``elu + 1`` features, causal by cumsum of outer products."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = F.elu(self.q(x)) + 1, F.elu(self.k(x)) + 1, self.v(x)
        kv = torch.einsum("btd,bte->btde", k, v).cumsum(dim=1)
        z = 1 / (torch.einsum("btd,btd->bt", q, k.cumsum(1)) + 1e-6)
        return torch.einsum("btd,btde,bt->bte", q, kv, z)
