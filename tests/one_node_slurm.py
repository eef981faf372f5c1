"""A Slurm of one node, on this machine, for the tests."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SBIN = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
PROGRAMS = {name: shutil.which(name, path=SBIN) for name in ("munged", "slurmctld", "slurmd", "sbatch")}
CPUS = 4

CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=20
NodeName={host} CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """The daemons, in a folder; `environment` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.daemons = folder, {}
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(host=host, ports=_free_ports(2), user=getpass.getuser(), folder=folder, cpus=CPUS)
        (folder / "slurm.conf").write_text(text)
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)

    def start(self, name: str, *arguments: str) -> None:
        """Starts a daemon in the foreground."""
        log = (self.folder / f"{name}.out").open("a")
        environment = os.environ | self.environment
        self.daemons[name] = subprocess.Popen([PROGRAMS[name], *arguments], stdout=log, stderr=log, env=environment)

    def end(self, name: str) -> None:
        """Kills a daemon at once."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def __call__(self, *command: str) -> str:
        """What a command prints; again until it succeeds, as a controller that has just begun refuses some."""
        patience = time.monotonic() + 30
        while True:
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | self.environment)
            if done.returncode == 0:
                return done.stdout
            assert time.monotonic() < patience, done.stderr
            time.sleep(0.1)


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[Slurm]:
    """A running Slurm, until the context ends: its jobs end with it."""
    slurm = Slurm(folder)
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munged.seed"}
    try:
        slurm.start("munged", "--foreground", "--force", *(f"--{key}={folder / file}" for key, file in files.items()))
        slurm.start("slurmctld", "-D", "-i")
        slurm.start("slurmd", "-D")
        while "idle" not in slurm("sinfo", "--noheader", "--format=%T"):
            time.sleep(0.1)
        yield slurm
        slurm("scancel", f"--user={getpass.getuser()}")
        while slurm("squeue", "--noheader"):
            time.sleep(0.1)
    finally:
        for name in ("slurmd", "slurmctld", "munged"):
            if name in slurm.daemons:
                slurm.end(name)


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
