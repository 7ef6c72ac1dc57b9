"""Simulated vCenters, over TLS with a certificate that a client can check."""

import json
import os
import re
import ssl
import subprocess
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.servers import certificate, golang
from tools.servers.process import Daemon
from tools.servers.state import LOOPBACK, ServerError

USERNAME = "administrator@vsphere.local"
PASSWORD = "Sim-only-passw0rd"  # of a simulator that holds nothing
API_VERSION = "8.0.3.0"
START_SECONDS = 60
START_SECONDS_PER_MACHINE = 0.2
LISTENING = re.compile(r"^listening on https://[^:/]+:(\d+)/sdk$", re.MULTILINE)


class Vcsim:
    """One simulated vCenter.

    Its model is given by vcsim's own flags as keywords: cluster=2, host=3, vm=10 (per
    resource pool), standalone_host=0, ds=2, pg=1, delay=5, method_delay="PowerOnVM_Task:700".
    ``environment`` is added to the process's own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        program: golang.Program = golang.VCSIM,
        environment: Mapping[str, str] | None = None,
        **flags: str | int | float,
    ) -> None:
        self.folder = folder
        self._program = program
        self._environment = environment or {}
        self.port = port
        self.username = USERNAME
        self.password = PASSWORD
        self.certificate = certificate.ensure(folder, f"vcsim {folder.name}")
        self._flags: dict[str, str | int | float] = {
            "standalone_host": 0,
            "api_version": API_VERSION,
            # The simulator's own is the same in all of them; this one is the folder's.
            "instance_uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, folder.resolve().as_uri())),
            **flags,
        }

    @property
    def host(self) -> str:
        """Host name to dial; the certificate is for it."""
        return LOOPBACK

    @property
    def url(self) -> str:
        """Address of the SOAP API."""
        return f"https://{LOOPBACK}:{self.port}/sdk"

    @property
    def ca_file(self) -> Path:
        """The authority that signed the server's certificate."""
        return self.certificate.authority

    @property
    def thumbprint(self) -> str:
        """SHA-256 of the server's certificate, AA:BB:..."""
        return self.certificate.thumbprint

    def start(self) -> None:
        """Start, on the same port as before if it ran before; the model is made afresh."""
        golang.ensure(self._program)
        daemon = self._daemon()
        daemon.start()
        machines = int(self._flags.get("vm", 2)) * int(self._flags.get("cluster", 1))
        daemon.wait_ready(self._listens, START_SECONDS + START_SECONDS_PER_MACHINE * machines)

    def stop(self) -> None:
        """End the simulator: connections to it are refused from now on."""
        self._daemon().stop()

    def suspend(self) -> None:
        """Freeze the simulator: connections stay open and nothing answers."""
        self._daemon().suspend()

    def resume(self) -> None:
        """Let a frozen simulator go on."""
        self._daemon().resume()

    @property
    def pid(self) -> int | None:
        """The process, None if it is not running."""
        return self._daemon().pid

    def running(self) -> bool:
        """Whether the process lives."""
        return self.pid is not None

    def govc(self, *arguments: str) -> str:
        """Run govc against this vCenter; returns what it printed.

        Raises ServerError with govc's message if it fails.
        """
        result = subprocess.run(
            [golang.ensure(golang.GOVC), *arguments],
            env=os.environ | self.govc_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ServerError(f"govc {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout

    def govc_json(self, *arguments: str) -> Any:
        """Run a govc command with -json; returns the parsed answer."""
        command, *rest = arguments
        return json.loads(self.govc(command, "-json", *rest))

    def govc_environment(self) -> dict[str, str]:
        """Variables with which govc finds this vCenter."""
        return {
            "GOVC_URL": self.url,
            "GOVC_USERNAME": self.username,
            "GOVC_PASSWORD": self.password,
            "GOVC_TLS_CA_CERTS": str(self.ca_file),
            "GOVC_INSECURE": "false",
            # A cached session would outlive a simulator that is started again.
            "GOVC_PERSIST_SESSION": "false",
        }

    def inject_fault(self, fault: str, method: str = "*", **rule: str | int | float) -> None:
        """Let calls of a method fail with a fault of the vSphere API, such as NoPermission.

        More of the rule: object_type, object_name, message, delay (ms), max_count, probability.
        With ``task_progress`` the call succeeds and its task fails at that percentage: below 100
        none of its work is done, at 100 all of it.
        """
        self._request("POST", {"fault": fault, "method": method, **rule})

    def clear_faults(self) -> None:
        """Let all calls work again."""
        self._request("DELETE", {})

    def _request(self, method: str, body: dict[str, str | int | float]) -> None:
        request = urllib.request.Request(
            f"https://{LOOPBACK}:{self.port}/simulator/faults",
            data=json.dumps(body).encode(),
            method=method,
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.ca_file)),
        )
        opener.open(request, timeout=10).close()

    def _daemon(self) -> Daemon:
        flags = [f"-{name.replace('_', '-')}={value}" for name, value in self._flags.items()]
        command: list[str | Path] = [
            self._program.path,
            *("-l", f"{LOOPBACK}:{self.port}"),
            *("-username", self.username, "-password", self.password),
            *("-tlscert", self.certificate.certificate, "-tlskey", self.certificate.key),
            *flags,
        ]
        return Daemon("vcsim", self.folder, command, self._environment, stop_seconds=10)

    def _listens(self) -> bool:
        found = LISTENING.search((self.folder / "vcsim.log").read_text())
        if found:
            self.port = int(found[1])
        return found is not None
