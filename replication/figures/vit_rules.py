"""Test accuracy of every rule on the ViT (T1)."""

from replication.figures._against_bp import settings_alone

FIGURE = settings_alone
