"""Figures: shares of experts, retrieved pictures with their texts and frames."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from zoo.methods.m3_jepa.plots import gate_usage, picture_grid
from zoo.records import Media


def test_gate_usage_is_a_share_of_each_row() -> None:
    figure = gate_usage({"a": torch.tensor([3, 1]), "b": torch.tensor([0, 5])})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])


def test_a_row_of_pictures_for_each_text() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, format="PNG")
    red = Media("red", data=stream.getvalue())
    rows = [("one", [(red, True), (red, False)]), ("two", [(red, False), (red, False)])]
    axes = picture_grid(rows).axes
    assert [part.get_ylabel() for part in axes] == ["one", "", "two", ""]
    frames = [part.spines["left"].get_linewidth() for part in axes]
    assert frames == [4, 1, 1, 1]
    green = axes[0].spines["left"].get_edgecolor()
    assert green != axes[1].spines["left"].get_edgecolor() == axes[2].spines["left"].get_edgecolor()
    assert (axes[0].images[0].get_array() == [255, 0, 0]).all()
