"""
Fixed routes: hosts and paths of the public side that lead to things which Docker does not run.

Knows names, addresses, who may be a target, and when one is ready. Knows nothing of apps, releases or rollouts:
its entries of the table stand beside those of apps, under names that no app can have.
"""

from controller.fixed.keeper import Keeper, is_fixed
from controller.fixed.targets import Fence

__all__ = ["Fence", "Keeper", "is_fixed"]
