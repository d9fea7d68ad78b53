"""Attention, recurrence and audio: sequences in the manner of speech and language code."""

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


@CASES.add("bidirectional lstm with packed-like ends", (9, 6))
class BiLstm(nn.Module):
    """Two layers, both directions; last state of each direction by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2)
        self.fc = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        h0 = torch.zeros(4, x.size(0), 5).to(x.device)
        c0 = torch.zeros(4, x.size(0), 5).to(x.device)
        out, (hn, _) = self.lstm(x, (h0, c0))
        ends = torch.cat((out[:, -1, :5], out[:, 0, 5:]), 1)
        return self.fc(torch.cat((ends, hn[-2], hn[-1]), 1))


@CASES.add("crnn for text", (1, 32, 48))
class Crnn(nn.Module):
    """Convolutions to one row, squeeze, permute, bidirectional GRU, log_softmax, [T, N, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(True),
            nn.MaxPool2d((2, 2), (2, 1), (0, 1)), nn.Conv2d(8, 8, (8, 2)), nn.ReLU(),
        )  # fmt: skip
        self.rnn, self.fc = nn.GRU(8, 6, bidirectional=True), nn.Linear(12, 11)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.cnn(x)
        _, _, h, _ = conv.size()
        assert h == 1, "the height of conv must be 1"
        conv = conv.squeeze(2).permute(2, 0, 1)
        recurrent, _ = self.rnn(conv)
        t, b, h = recurrent.size()
        return F.log_softmax(self.fc(recurrent.view(t * b, h)).view(t, b, -1), dim=2)


@CASES.add("lstm cell in a loop with states out", {"x": (5, 4), "h": (6,), "c": (6,)})
class CellLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outs = []
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
            outs.append(h)
        return torch.stack(outs, dim=1), (h, c)


@CASES.add("convolutional lstm", (4, 2, 10, 8))
class ConvLstm(nn.Module):
    """Four frames [T, C, H, W] of a clip; the state starts at zeros of the frame's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 + 3, 12, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        b, seq, _, height, width = frames.size()
        h = torch.zeros(b, 3, height, width, device=self.conv.weight.device)
        c = torch.zeros_like(h)
        for t in range(seq):
            gates = self.conv(torch.cat([frames[:, t, :, :, :], h], dim=1))
            i, f, o, g = torch.split(gates, 3, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


@CASES.add("minimal gated unit by einsum", (6, 8))
class Gated(nn.Module):
    """A gated unit with peepholes written with Parameters and einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(2, 8, 8) * 0.3)
        self.u = nn.Parameter(torch.randn(2, 8, 8) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 8)
        for t in range(x.shape[1]):
            a = torch.einsum("bi,goi->gbo", x[:, t], self.w)
            b = torch.einsum("bi,goi->gbo", h, self.u)
            z = torch.sigmoid(a[0] + b[0])
            h = torch.lerp(h, torch.tanh(a[1] + z * b[1]), z)
        return h


class Chomp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.size].contiguous()


@CASES.add("tcn with chomped padding and weight norm", (3, 24))
class Tcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.blocks, self.down = nn.ModuleList(), nn.ModuleList()
        for level, inputs in enumerate((3, 6, 6)):
            dilation = 2**level
            self.blocks.append(nn.Sequential(
                norm(nn.Conv1d(inputs, 6, 3, padding=2 * dilation, dilation=dilation)),
                Chomp(2 * dilation), nn.ReLU(), nn.Dropout(0.2),
            ))  # fmt: skip
            self.down.append(nn.Conv1d(inputs, 6, 1) if inputs != 6 else nn.Identity())
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block, down in zip(self.blocks, self.down, strict=True):
            x = F.relu(block(x) + down(x))
        return self.fc(x[:, :, -1])


@CASES.add("log mel spectrogram by conv1d", (400,))
class LogMel(nn.Module):
    """A windowed Fourier basis as a convolution with reflect padding, power, mel, decibel."""

    def __init__(self) -> None:
        super().__init__()
        n = torch.arange(64.0)
        angle = 2 * math.pi * torch.outer(torch.arange(33.0), n) / 64
        basis = torch.cat((torch.cos(angle), -torch.sin(angle))) * torch.hann_window(64)
        self.register_buffer("basis", basis[:, None])
        self.register_buffer("mel", torch.rand(10, 33))

    def forward(self, audio: Tensor) -> Tensor:
        x = F.pad(audio.unsqueeze(1), (32, 32), mode="reflect")
        real, imag = F.conv1d(x, self.basis, stride=16).chunk(2, 1)
        power = real.pow(2) + imag.pow(2)
        db = 10.0 * torch.log10(torch.clamp(torch.matmul(self.mel, power), min=1e-5))
        db = torch.maximum(db, db.amax(dim=(-2, -1), keepdim=True) - 80.0)
        return (db - db.mean(dim=-1, keepdim=True)) / (db.std(-1, keepdim=True) + 1e-5)


@CASES.add("stft of torch", (256,))
class Stft(nn.Module):
    """torch.stft with complex results, and their magnitude."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))

    def forward(self, audio: Tensor) -> Tensor:
        spec = torch.stft(audio, 64, 32, window=self.window, return_complex=True)
        return torch.log1p(spec.abs())


@CASES.add("wav2letter", (6, 80))
class Wav2Letter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(6, 12, 48, 2, 23), nn.ReLU(inplace=True), nn.Conv1d(12, 12, 7, 1, 3),
            nn.ReLU(inplace=True), nn.Conv1d(12, 16, 32, 1, 16), nn.ReLU(), nn.Conv1d(16, 5, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.net(x), dim=1).permute(2, 0, 1)


@CASES.add("conformer convolution module", (14, 16))
class ConformerConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(16), nn.Conv1d(16, 32, 1)
        self.depthwise = nn.Conv1d(16, 16, 7, padding=3, groups=16)
        self.bn, self.down = nn.BatchNorm1d(16), nn.Conv1d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).transpose(1, 2)
        y = F.glu(self.up(y), dim=1)
        y = F.silu(self.bn(self.depthwise(y)))
        return x + 0.5 * self.down(y).transpose(1, 2)


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


@CASES.add("state space scan", (8, 4))
class Scan(nn.Module):
    """A Mamba-like recurrence unrolled, with softplus steps and a causal depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, groups=4, padding=2)
        self.a_log, self.d = (
            nn.Parameter(torch.log(torch.arange(1, 4.0)).repeat(4, 1)),
            nn.Parameter(torch.ones(4)),
        )
        self.x_proj, self.dt = nn.Linear(4, 1 + 6, bias=False), nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        u = F.silu(self.conv(x.mT)[..., :length]).mT
        delta, b, c = self.x_proj(u).split([1, 3, 3], dim=-1)
        delta, a = F.softplus(self.dt(delta)), -torch.exp(self.a_log.float())
        state, ys = u.new_zeros(u.shape[0], 4, 3), []
        for i in range(length):
            da = torch.exp(delta[:, i, :, None] * a)
            state = da * state + (delta[:, i] * u[:, i])[..., None] * b[:, i, None, :]
            ys.append((state * c[:, i, None]).sum(-1))
        return torch.stack(ys, 1) + u * self.d


@CASES.add("ctc greedy collapse", (12, 6))
class Greedy(nn.Module):
    """Argmax labels, repeats by comparison with the shifted labels, blank removed by where."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        labels = self.fc(x).argmax(-1)
        before = F.pad(labels[:, :-1], (1, 0), value=-1)
        return torch.where((labels != before) & (labels != 0), labels, torch.full_like(labels, -1))


@CASES.add("mixture of experts with top 2", (5, 8))
class Experts(nn.Module):
    """Every expert is computed; a dense mask of the two best of each token weights them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 8)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        x = x.view(-1, c)
        weights, chosen = torch.topk(F.softmax(self.gate(x), dim=1, dtype=torch.float), 2, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        mask = F.one_hot(chosen, num_classes=4)
        full = (mask * weights.unsqueeze(-1)).sum(1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            out = out + expert(x) * full[:, i : i + 1]
        return out.view(b, t, c)


@CASES.add("experts called on their tokens only", (5, 8))
class SparseExperts(nn.Module):
    """torch.where on the router's choice and index_add_: sizes depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 2), nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(-1, 8)
        chosen, out = self.gate(flat).argmax(-1), torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            (rows,) = torch.where(chosen == i)
            out.index_add_(0, rows, expert(flat[rows]))
        return out.view_as(x)


@CASES.add("vector quantiser", (9, 4))
class Quantiser(nn.Module):
    """Nearest code by expanded squares, embedding of the index, straight-through."""

    def __init__(self) -> None:
        super().__init__()
        self.codebook = nn.Embedding(12, 4)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        flat = z.reshape(-1, 4)
        d = (flat.pow(2).sum(1, keepdim=True) - 2 * flat @ self.codebook.weight.t()
             + self.codebook.weight.pow(2).sum(1, keepdim=True).t())  # fmt: skip
        indices = d.min(1)[1]
        quantised = self.codebook(indices).view(z.shape)
        return z + (quantised - z).detach(), indices.view(z.shape[:-1])
