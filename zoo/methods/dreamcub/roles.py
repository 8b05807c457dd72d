"""Names of the adapters, and of what may be told the belief.

The reference is the base without any adapter.
"""

from typing import Literal

WORLD, POLICY, CRITIC = "world_model", "policy", "critic"
Component = Literal["observation", "reward", "policy"]
