"""`vsphere_gateway.v1.Management`: what an operator may change in a running control plane."""

import logging

import grpc

from common.log_fields import fields
from common.timestamps import naive_utc_now
from controlplane.gateway.authorization import peer_identity
from controlplane.gateway.status import abort
from controlplane.store.database import Database
from controlplane.store.errors import StoreError
from controlplane.store.own import quarantine
from vsphere_gateway.v1 import management_pb2, management_pb2_grpc

LOG = logging.getLogger(__name__)


class ManagementServicer(management_pb2_grpc.ManagementServicer):
    """Every change is logged with the operator's name."""

    def __init__(self, database: Database) -> None:
        """``database`` holds the gateway's own tables."""
        self._database = database

    def ReleaseAlarm(
        self, request: management_pb2.ReleaseAlarmRequest, context: grpc.ServicerContext
    ) -> management_pb2.ReleaseAlarmResponse:
        """Lets what an alarm holds back go on."""
        alarm_id = request.alarm_id.removeprefix("alarm:")
        operator = peer_identity(context).name
        try:
            released = self._database.run(
                lambda c: quarantine.release_alarm(c, alarm_id, operator, naive_utc_now())
            )
        except StoreError as error:
            abort(context, error)
        if not released:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no open alarm {alarm_id!r}")
        LOG.warning("alarm released", extra=fields(alarm=alarm_id, operator=operator))
        return management_pb2.ReleaseAlarmResponse()
