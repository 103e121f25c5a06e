"""A farm for your tests: no network, no GPU, no sleeping, and the same contract.

>>> farm = Farm(transport=FakeFarm())
>>> farm.render("a red circle").pil().size
(128, 128)
"""

from renderfarm.testing.farm import FakeFarm

__all__ = ["FakeFarm"]
