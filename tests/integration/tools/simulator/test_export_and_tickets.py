"""A virtual machine's disks can be exported, and a ticket for its console acquired."""

import hashlib
import ssl
import urllib.request

import pytest
from pyVmomi import vim, vmodl

from tests.integration.tools.simulator.vcenter_client import VCenterClient


def test_the_disks_of_a_machine_that_is_off_are_exported(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    lease = machine.ExportVm()
    assert lease.state == "ready"
    assert lease.info.entity == machine
    urls = [each.url for each in lease.info.deviceUrl if each.disk]
    assert len(urls) == 1
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(
            context=ssl.create_default_context(cafile=vcenter.simulator.ca_file)
        ),
    )
    with opener.open(urls[0], timeout=10) as answer:
        assert b"Disk DescriptorFile" in answer.read()
    lease.HttpNfcLeaseProgress(100)
    lease.HttpNfcLeaseComplete()


def test_the_disks_of_a_machine_that_is_on_are_not(vcenter: VCenterClient) -> None:
    with pytest.raises(vim.fault.InvalidPowerState):
        vcenter.machine(on=True).ExportVm()


def test_a_ticket_names_the_server_and_its_certificate(vcenter: VCenterClient) -> None:
    machine = vcenter.machine(on=True)
    simulator = vcenter.simulator
    ticket = machine.AcquireTicket("webmks")
    assert (ticket.host, ticket.port) == (simulator.host, simulator.port)
    assert ticket.url == f"wss://{simulator.host}:{simulator.port}/ticket/{ticket.ticket}"
    certificate = ssl.PEM_cert_to_DER_cert(
        ssl.get_server_certificate((simulator.host, simulator.port))
    )
    sha1 = hashlib.sha1(certificate, usedforsecurity=False).hexdigest()
    assert ticket.sslThumbprint.replace(":", "").lower() == sha1
    [thumbprint] = ticket.certThumbprintList
    assert thumbprint.hashAlgorithm == "sha256"
    assert thumbprint.thumbprint.replace(":", "").lower() == hashlib.sha256(certificate).hexdigest()
    assert machine.AcquireTicket("webmks").ticket != ticket.ticket


def test_no_ticket_for_a_machine_that_is_off_or_of_an_unknown_type(
    vcenter: VCenterClient,
) -> None:
    with pytest.raises(vim.fault.InvalidState):
        vcenter.machine().AcquireTicket("webmks")
    with pytest.raises(vmodl.fault.InvalidArgument):
        vcenter.machine(on=True).AcquireTicket("telnet")
