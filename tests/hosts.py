"""Hosts on one machine: each has a network, processes, a name and shared memory of its own, and a wire that can be cut.

    this machine --- switch (a bridge) --+-- head
                                         +-- left
                                         +-- right

Namespaces of Linux, one set per host: whatever runs there ends with the process that holds them, and that one with us. The disk is shared, as an
image is, but for Ray's folder. Knows nothing of what runs there.
"""

import ipaddress
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import psutil

ADDRESSES = ipaddress.ip_network("198.18.0.0/15")  # set aside for tests of networks, RFC 2544
PREFIX = 28  # of one switch: 14 hosts
SIZE = 1 << (32 - PREFIX)
OWN = ("--net", "--mount", "--uts", "--ipc", "--pid")
# The shell is the host's first process: it takes in orphans, as Ray leaves them, and ends them.
HELD = """
mkdir -p /tmp/ray && mount -t tmpfs ray /tmp/ray && mount -t tmpfs shm /dev/shm && hostname {name} && ip link set lo up && echo ready &&
{{ sleep infinity & wait; }}
"""
OURS = f"vidmill{os.getpid()}"  # this machine's end of its wire
PATIENCE_S = 30


class Refused(Exception):
    """This machine allows no hosts of one's own."""


class Host:
    """A set of namespaces and the process that holds them."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.running: list[subprocess.Popen[bytes]] = []
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *OWN, "--fork", "--kill-child", "--mount-proc", "bash", "-c", HELD.format(name=name)]
        try:
            self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except FileNotFoundError as error:
            raise Refused(str(error)) from error
        assert self.holder.stdout
        if self.holder.stdout.readline() != "ready\n":
            raise Refused(self.power_off())
        (self.first,) = (child.pid for child in psutil.Process(self.holder.pid).children())

    def within(self, *command: object) -> list[str]:
        """The command line that runs a command there."""
        return ["nsenter", "--target", str(self.first), *OWN, "--", *map(str, command)]

    def start(self, *command: object, output: IO[bytes], environment: dict[str, str]) -> None:
        """Run something there until the power goes."""
        self.running.append(subprocess.Popen(self.within(*command), env=environment, stdout=output, stderr=output))

    def runs(self, what: str) -> bool:
        """Whether a process with this in its command line is there."""
        return any(what in " ".join(process.cmdline()) for process in self._processes())

    def power_off(self) -> str:
        """Kill everything there at once; the address answers no more. What the holder complained of."""
        if self.holder.returncode is not None:
            return ""
        self.holder.kill()
        for process in self.running:
            process.wait(PATIENCE_S)
        return self.holder.communicate()[1].strip()

    def _processes(self) -> Iterator[psutil.Process]:
        here = _pids_of(self.first)
        for process in psutil.process_iter():
            if here and _pids_of(process.pid) == here and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _pids_of(process: int) -> int | None:
    try:
        return os.stat(f"/proc/{process}/ns/pid").st_ino
    except OSError:
        return None


class Lan:
    """Hosts on one switch."""

    def __init__(self) -> None:
        start = int(ADDRESSES.network_address) + os.getpid() % (ADDRESSES.num_addresses // SIZE) * SIZE
        self._free = (str(ipaddress.ip_address(start + number)) for number in range(1, SIZE - 1))
        self.hosts: dict[str, Host] = {}
        self.switch = Host("switch", next(self._free))
        self._on_switch("link", "add", "lan", "type", "bridge")
        self._on_switch("addr", "add", f"{self.switch.address}/{PREFIX}", "dev", "lan")
        self._on_switch("link", "set", "lan", "up")
        self._plug(OURS, os.getpid())
        _connect(os.getpid(), OURS, next(self._free))

    def add(self, name: str) -> Host:
        """A host, connected."""
        host = self.hosts[name] = Host(name, next(self._free))
        self._plug("eth0", host.first)
        _connect(host.first, "eth0", host.address)
        _ip(host.first, "route", "add", "default", "via", self.switch.address)  # leads nowhere; Ray asks it which address is its own
        return host

    def wire(self, name: str, state: str) -> None:
        """Cut (`down`) or mend (`up`) a host's wire; what runs there goes on."""
        self._on_switch("link", "set", f"to{self.hosts[name].first}", state)

    def close(self) -> None:
        """End all hosts."""
        self._on_switch("link", "delete", f"to{os.getpid()}")
        for host in (*self.hosts.values(), self.switch):
            host.power_off()

    def _plug(self, device: str, process: int) -> None:
        self._on_switch("link", "add", f"to{process}", "type", "veth", "peer", "name", device, "netns", process)
        self._on_switch("link", "set", f"to{process}", "master", "lan", "up")

    def _on_switch(self, *command: object) -> None:
        _ip(self.switch.first, *command)


def _connect(process: int, device: str, address: str) -> None:
    _ip(process, "addr", "add", f"{address}/{PREFIX}", "dev", device)
    _ip(process, "link", "set", device, "up")


def _ip(process: int, *command: object) -> None:
    """Set up the network of a process; only the network, so that the processes named are those that we see."""
    line = ["nsenter", "--target", str(process), "--net", "--", "ip", *map(str, command)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode:
        raise Refused(f"{' '.join(line)}: {done.stderr.strip()}")


@contextmanager
def lan() -> Iterator[Lan]:
    """A switch without hosts.

    Raises:
        Refused: of the machine's own rules; nothing is left.
    """
    made = Lan()
    try:
        yield made
    finally:
        made.close()
