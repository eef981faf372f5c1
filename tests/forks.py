"""Processes that cost a fork instead of the import of torch: forks of a server that never trains, so that they may."""

import os
from multiprocessing.context import ForkServerContext, ForkServerProcess


class Fork(ForkServerProcess):
    """Has the environment of the process that starts it, as a spawned one has; that of the server is older."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._environment = dict(os.environ)

    def run(self):
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()


class Forks(ForkServerContext):
    Process = Fork


FORKS = Forks()
FORKS.set_forkserver_preload(
    [
        "torch._dynamo",
        "sklearn.datasets",
        "sklearn.model_selection",
        "pytest",
        "typer",
        "bench.training.costs",
        "bench.models.mlp",
        "bench.data.digits",
        "bench.rules.bp",
    ]
)
