"""LatHAdapter: learnable attribute prompts join categories and images under a hierarchical regulariser in the ball.

An independent implementation after the published abstract (Zhao et al. 2025, arXiv 2508.11176), with the hierarchical
regularisation of HIER (arXiv 2212.14258). The paper's body was not available: how attributes are made, how they reach
class and image features and which hierarchy is learnt are readings, each a setting of `LatHAdapterConfig`; no figure of
the paper is claimed.
"""

from hyperadapt.adapters.lathadapter.adapter import LatHAdapter
from hyperadapt.adapters.lathadapter.config import LatHAdapterConfig

__all__ = ["LatHAdapter", "LatHAdapterConfig"]
