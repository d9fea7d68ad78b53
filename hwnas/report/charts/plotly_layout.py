"""Axes, panels and annotations that the charts share."""

from __future__ import annotations

from typing import Any

Figure = dict[str, Any]

BLUE, ORANGE, GREY, GREEN, RED = "#3b82f6", "#f59e0b", "#8b95a5", "#10b981", "#ef4444"
_GRID = "rgba(128,128,128,0.22)"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def layout(x_title: str, y_title: str, height: int) -> Figure:
    """Return a transparent layout; ``height`` in CSS pixels."""
    return {
        "height": height,
        "margin": margin(),
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 12},
        "modebar": {"bgcolor": "rgba(0,0,0,0)"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": axis(x_title),
        "yaxis": axis(y_title),
    }


def margin(bottom: int = 52) -> dict[str, int | bool]:
    return {"l": 58, "r": 24, "t": 44, "b": bottom}


def axis(title: str) -> Figure:
    return {
        "title": {"text": title},
        "gridcolor": _GRID,
        "zeroline": False,
        "automargin": True,
        "nticks": 8,
    }


def panels() -> Figure:
    """Return the axes of the three panels of the search curves, two of them with a right axis."""

    def left(title: str, low: float, high: float) -> Figure:
        return axis(title) | {"domain": [low, high], "rangemode": "tozero", "nticks": 5}

    def right(title: str, over: str) -> Figure:
        return axis(title) | {
            "overlaying": over,
            "side": "right",
            "showgrid": False,
            "rangemode": "tozero",
            "tickmode": "auto",
            "nticks": 4,
        }

    return {
        "xaxis": axis("step") | {"anchor": "y5"},
        "yaxis": left("ms (predicted)", 0.68, 1.0),
        "yaxis2": right("multiplier", "y"),
        "yaxis3": left("loss", 0.32, 0.60),
        "yaxis4": right("accuracy, %", "y3"),
        "yaxis5": left("entropy", 0.0, 0.24) | {"range": [0, 1.05]},
    }


def mark_budget(drawn: Figure, budget_ms: float, end_ms: float) -> None:
    """Draw a line at the budget and shade the latencies over it, up to ``end_ms``."""
    full_height: Figure = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    drawn["shapes"] = [
        full_height
        | {
            "type": "rect",
            "x0": budget_ms,
            "x1": end_ms,
            "fillcolor": "rgba(239,68,68,0.07)",
            "line": {"width": 0},
        },
        full_height
        | {
            "type": "line",
            "x0": budget_ms,
            "x1": budget_ms,
            "line": {"color": RED, "width": 1.5, "dash": "dash"},
        },
    ]
    drawn["annotations"] = [
        {
            "x": budget_ms,
            "y": 0,
            "yref": "paper",
            "yanchor": "bottom",
            "xanchor": "left",
            "text": " budget",
            "showarrow": False,
        }
    ]


def shade(start: float, end: float) -> Figure:
    """Return a grey band over a range of steps, behind all panels."""
    style = {"layer": "below", "fillcolor": "rgba(128,128,128,0.12)", "line": {"width": 0}}
    return style | {"type": "rect", "x0": start, "x1": end, "yref": "paper", "y0": 0, "y1": 1}


def annotation(x: float, text: str) -> Figure:
    return {
        "x": x,
        "y": 1,
        "yref": "paper",
        "text": text,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
    }


def caption(text: str, y: float) -> Figure:
    """Return the heading of a panel whose upper edge is at ``y`` in paper coordinates."""
    return {
        "text": text,
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": y,
        "yref": "paper",
        "yanchor": "bottom",
        "yshift": 4,
        "showarrow": False,
    }


def ramp(colour: str) -> list[list[float | str]]:
    """Return a colour scale from transparent to ``colour`` (red, green, blue)."""
    return [[0, f"rgba({colour},0.03)"], [1, f"rgba({colour},0.85)"]]
