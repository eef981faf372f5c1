"""What training costs on this machine, as ratios, each measured in one process. `ROWS[name]` is one of them.

A row is measured by running its sides in turn, many times over; its value is the median over the rounds.
"""

from bench.speed import epoch, feedback, floor, gpu, loop, outside, peer, rank, sweep
from bench.speed.base import Row

ROWS: dict[str, Row] = {
    row.name: row for module in (feedback, floor, loop, epoch, rank, outside, sweep, peer, gpu) for row in module.ROWS
}
