"""What training costs on this machine, as ratios, each measured in one process. `ROWS[name]` is one of them.

A row is measured by running its sides alternately, many times; its value is the median over the rounds.
"""

from bench.speed import epoch, feedback, floor, gpu, loop, outside, peer, population, rank, steps, sweep
from bench.speed.base import Row

MODULES = feedback, floor, loop, epoch, rank, outside, sweep, population, peer, steps, gpu
ROWS: dict[str, Row] = {row.name: row for module in MODULES for row in module.ROWS}
