"""The loopback listener for operators: usable with `grpcurl` and no proto file at hand.

`Management`, what an operator may change, is here too.
"""

import logging
from collections.abc import Callable

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from certs.credentials import TlsMaterial
from certs.identity import Role
from common.log_fields import fields
from common.timestamps import naive_utc_now
from controlplane.gateway.admin.diagnostics import DiagnosticsServicer
from controlplane.gateway.admin.health import Health
from controlplane.gateway.authorization import ActiveInterceptor, RoleInterceptor, peer_identity
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.servers import admin_server
from controlplane.gateway.status import abort
from controlplane.store.database import Database
from controlplane.store.errors import StoreError
from controlplane.store.own import quarantine
from vsphere_gateway.v1 import (
    diagnostics_pb2,
    diagnostics_pb2_grpc,
    management_pb2,
    management_pb2_grpc,
)

LOG = logging.getLogger(__name__)

SERVICES = (
    diagnostics_pb2.DESCRIPTOR.services_by_name["Diagnostics"].full_name,
    management_pb2.DESCRIPTOR.services_by_name["Management"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
    reflection.SERVICE_NAME,
)


class ManagementServicer(management_pb2_grpc.ManagementServicer):
    """Every change is logged with the operator's name."""

    def __init__(self, database: Database) -> None:
        """``database`` is the gateway database."""
        self._database = database

    def ReleaseAlarm(
        self, request: management_pb2.ReleaseAlarmRequest, context: grpc.ServicerContext
    ) -> management_pb2.ReleaseAlarmResponse:
        """Release an alarm: what it holds back is applied."""
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


def build_admin_server(
    tls: TlsMaterial,
    health: Health,
    diagnostics: DiagnosticsServicer,
    management: ManagementServicer,
    refusals: Refusals,
    inactive: Callable[[], str] = str,
) -> grpc.Server:
    """Make the server with health, reflection, channelz and our services; operators alone.

    While ``inactive`` returns a reason, our services answer with it.
    """
    roles = RoleInterceptor(tls.identity.customer, [Role.OPERATOR], refusals)
    server = admin_server([roles, ActiveInterceptor(inactive)])
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    diagnostics_pb2_grpc.add_DiagnosticsServicer_to_server(diagnostics, server)
    management_pb2_grpc.add_ManagementServicer_to_server(management, server)
    channelz.add_channelz_servicer(server)
    reflection.enable_server_reflection(SERVICES, server)
    return server
