"""Test accuracy of every rule on the CNN (C1)."""

from replication.figures.base import settings_alone

FIGURE = settings_alone
