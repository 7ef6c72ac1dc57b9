"""`vsphere_gateway.v1.Management`: what an operator may change in a running control plane."""

import logging
from typing import Protocol

import grpc

from controlplane.config.log import keyed
from controlplane.gateway.authorization import peer_identity
from controlplane.gateway.status import abort
from controlplane.store.errors import StoreError
from vsphere_gateway.v1 import management_pb2, management_pb2_grpc

LOG = logging.getLogger(__name__)


class Alarms(Protocol):
    """Implemented by ``controlplane.store.own.gateway``."""

    def release_alarm(self, alarm_id: str, by: str) -> bool:
        """Let what an alarm holds back go on; False when it is not open. Raises ``StoreError``."""


class ManagementServicer(management_pb2_grpc.ManagementServicer):
    """Every change is logged with the operator's name."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms

    def ReleaseAlarm(
        self, request: management_pb2.ReleaseAlarmRequest, context: grpc.ServicerContext
    ) -> management_pb2.ReleaseAlarmResponse:
        """Lets what an alarm holds back go on."""
        alarm_id = request.alarm_id.removeprefix("alarm:")
        operator = peer_identity(context).name
        try:
            released = self._alarms.release_alarm(alarm_id, operator)
        except StoreError as error:
            abort(context, error)
        if not released:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no open alarm {alarm_id!r}")
        LOG.warning("alarm released %s", keyed(alarm=alarm_id, operator=operator))
        return management_pb2.ReleaseAlarmResponse()
