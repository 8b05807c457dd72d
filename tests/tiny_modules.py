"""Modules of tiny backbones, not built yet."""

from __future__ import annotations

from typing import Any

import zoo


def tiny(method: str = "MeTHanol", name: str = "tiny-llama", **options: Any) -> Any:
    return getattr(zoo, method)(zoo.Backbone(name), **options)
