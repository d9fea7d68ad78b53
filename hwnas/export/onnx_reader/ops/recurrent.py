"""Recurrent layers, step by step along a sequence of a known length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode
from hwnas.export.onnx_reader.registry import reads

MAX_STEPS = 512
"""Longest sequence: every step has operators of its own in the compiled file."""
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
State = list[Tensor]


@reads("LSTM", "GRU", "RNN")
def recurrent(
    node: OnnxNode, x: Tensor, weight: Tensor, hidden_weight: Tensor, bias: Tensor | None = None,
    lengths: Tensor | None = None, *initial: Tensor | None,
) -> Any:  # fmt: skip
    """Return all hidden states ``[T, D, N, H]``, the last ones, and of an LSTM the last cells."""
    x = x.transpose(0, 1) if node.integer("layout", 0) else x
    _check(node, x, lengths, initial)
    directions = weight.shape[0]
    starts = [start for start in initial[: 2 if node.op == "LSTM" else 1]]
    outputs: list[Tensor] = []
    finals: list[State] = []
    for place in range(directions):
        backwards = place == 1 or node.text("direction", "forward") == "reverse"
        gates = _input_gates(node, x, weight[place], None if bias is None else bias[place])
        state = _initial_state(node, x, starts, place)
        hidden, final = _run(node, gates, hidden_weight[place], bias, place, state, backwards)
        outputs.append(hidden.unsqueeze(1))
        finals.append(final)
    last = [torch.stack([final[n] for final in finals]) for n in range(len(finals[0]))]
    whole = torch.cat(outputs, 1)
    if node.integer("layout", 0):
        return whole.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last)
    return whole, *last


def _check(node: OnnxNode, x: Tensor, lengths: Tensor | None, initial: Any) -> None:
    steps = x.shape[0]
    if lengths is not None and any(n != steps for n in node.numbers(lengths, "lengths")):
        node.refuse("has sequences of several lengths, which is not supported")
    if steps > MAX_STEPS:
        node.refuse(f"has {steps} steps; at most {MAX_STEPS} are compiled")
    names = [name.decode() if isinstance(name, bytes) else name
             for name in node.attributes.get("activations", [])]  # fmt: skip
    usual = DEFAULTS[node.op]
    if names and names != usual * (len(names) // len(usual)):
        node.refuse(f"has activations {names}; only {usual} are supported")
    if "clip" in node.attributes or node.integer("input_forget", 0) or any(
        value is not None for value in initial[2:]
    ):  # fmt: skip
        node.refuse("has clip, input_forget or peepholes, which is not supported")


def _input_gates(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what the input adds to the gates at every step: one linear layer for all."""
    if bias is None:
        return F.linear(x, weight)
    first, second = bias.chunk(2)
    if node.op == "GRU":  # the bias of the hidden state is inside the reset gate's product
        size = len(second) // 3
        second = torch.cat((second[: 2 * size], torch.zeros(size)))
    return F.linear(x, weight, first + second)


def _initial_state(node: OnnxNode, x: Tensor, starts: Any, place: int) -> State:
    size = node.integer("hidden_size")
    state: State = []
    for n in range(2 if node.op == "LSTM" else 1):
        start = starts[n] if n < len(starts) else None
        if start is not None and node.integer("layout", 0):
            start = start.transpose(0, 1)
        state.append(torch.zeros(x.shape[1], size) if start is None else start[place])
    return state


def _run(
    node: OnnxNode, gates: Tensor, weight: Tensor, bias: Tensor | None, place: int, state: State,
    backwards: bool,
) -> tuple[Tensor, State]:  # fmt: skip
    """Return the hidden states of all steps ``[T, N, H]``, and the last state."""
    step = CELLS[node.op]
    hidden_bias = None if bias is None else bias[place].chunk(2)[1]
    rows = list(gates.unbind(0))
    outputs: list[Tensor] = []
    for row in reversed(rows) if backwards else rows:
        state = step(node, row, weight, hidden_bias, state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def _lstm(node: OnnxNode, row: Tensor, weight: Tensor, bias: Tensor | None, state: State) -> State:
    """Compute a step; ONNX orders the gates input, output, forget, cell."""
    hidden, cell = state
    enter, leave, forget, new = (row + F.linear(hidden, weight)).chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
    return [torch.sigmoid(leave) * torch.tanh(cell), cell]


def _gru(node: OnnxNode, row: Tensor, weight: Tensor, bias: Tensor | None, state: State) -> State:
    """Compute a step; ONNX orders the gates update, reset, new."""
    [hidden] = state
    size = hidden.shape[-1]
    more = None if bias is None else bias[2 * size :]
    update, reset = torch.sigmoid(row[:, : 2 * size] + F.linear(hidden, weight[: 2 * size])).chunk(
        2, -1
    )
    if node.integer("linear_before_reset", 0):
        new = reset * F.linear(hidden, weight[2 * size :], more)
    else:
        new = F.linear(reset * hidden, weight[2 * size :], more)
    new = torch.tanh(row[:, 2 * size :] + new)
    return [(1 - update) * new + update * hidden]


def _rnn(node: OnnxNode, row: Tensor, weight: Tensor, bias: Tensor | None, state: State) -> State:
    return [torch.tanh(row + F.linear(state[0], weight))]


CELLS: dict[str, Callable[..., State]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
