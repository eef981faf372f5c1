"""The learning rules, one file each. `RULES.get(name)` is the rule's class."""

from typing import TYPE_CHECKING

from bench.registry import Registry

if TYPE_CHECKING:
    from bench.rules.base import Rule

RULES: "Registry[type[Rule]]" = Registry("rule", "bench.rules", "Rule", tried=lambda rule: rule())
