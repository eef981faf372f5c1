"""Test accuracy of `ldfa` with the settings tuned for `kp`, which is `ldfa` at full rank with P = I (N1, N2)."""

from replication.figures._against_bp import settings_alone

FIGURE = settings_alone
