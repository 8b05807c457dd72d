"""A zoo of LLM methods, each one LightningModule over any Hugging Face backbone."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "ALMR": "zoo.methods.almr.module",
    "ALMRReport": "zoo.methods.almr.report",
    "ALPO": "zoo.methods.alpo.module",
    "CoCT": "zoo.methods.coct.module",
    "ConfidentSFT": "zoo.methods.lamss.baselines",
    "DreamCUB": "zoo.methods.dreamcub.module",
    "ESCBaseline": "zoo.methods.esc_baselines.module",
    "FiSMiness": "zoo.methods.fisminess.module",
    "HdLM": "zoo.methods.hdlm.module",
    "LaHoRe": "zoo.methods.lahore.module",
    "LaMsS": "zoo.methods.lamss.module",
    "M3JEPA": "zoo.methods.m3_jepa.module",
    "MeGan": "zoo.methods.megan.module",
    "MuPaS": "zoo.methods.mupas.module",
    "MeTHanol": "zoo.methods.methanol.module",
    "Rabtriever": "zoo.methods.rabtriever.module",
    "SFT": "zoo.methods.sft.module",
    "SentenceEncoder": "zoo.methods.sova.sentence_encoder",
    "SoVA": "zoo.methods.sova.module",
    "StraQ": "zoo.methods.straq.module",
    "StraQResponder": "zoo.methods.straq.responder",
    "ValueIndex": "zoo.methods.sova.index",
    "ValueRetrieval": "zoo.methods.sova.retrieval",
    "ZooModule": "zoo.module",
    "Backbone": "zoo.backbone",
    "Hyper": "zoo.methods.megan.hypernetwork",
    "LoRA": "zoo.backbone",
    "Optimizer": "zoo.optimizer",
    "Tower": "zoo.methods.m3_jepa.towers",
    "load": "zoo.export",
    "save": "zoo.export",
    "write_graph_page": "zoo.methods.sova.page",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that `import zoo` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
