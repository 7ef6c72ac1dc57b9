"""The loopback listener for operators: usable with `grpcurl` and no proto file at hand."""

from collections.abc import Callable

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from certs.credentials import TlsMaterial
from certs.identity import Role
from controlplane.gateway.admin.diagnostics import DiagnosticsServicer
from controlplane.gateway.admin.health import Health
from controlplane.gateway.admin.management import ManagementServicer
from controlplane.gateway.authorization import ActiveInterceptor, RoleInterceptor
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.servers import admin_server
from vsphere_gateway.v1 import (
    diagnostics_pb2,
    diagnostics_pb2_grpc,
    management_pb2,
    management_pb2_grpc,
)

SERVICES = (
    diagnostics_pb2.DESCRIPTOR.services_by_name["Diagnostics"].full_name,
    management_pb2.DESCRIPTOR.services_by_name["Management"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
    reflection.SERVICE_NAME,
)


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
