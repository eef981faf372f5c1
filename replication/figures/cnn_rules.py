"""Test accuracy of every rule on the CNN (C1)."""

from replication.figures.base import by_setting

FIGURE = by_setting
