"""Checks before each call: the role and customer in the peer's certificate, and who is active.

The TLS handshake has already refused certificates of other authorities; this keeps an edge from an
operator's services and the other way round.
"""

import abc
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias, cast

import grpc

from certs.errors import IdentityError
from certs.identity import PeerIdentity, Role, identity_of_peer
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.status import RefusedError, abort, end_of

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
OWN_SERVICES = "/vsphere_gateway."
Behavior = Callable[[Any, grpc.ServicerContext], Any]


class CheckInterceptor(grpc.ServerInterceptor, abc.ABC):
    """Lets each call through only after a check."""

    @abc.abstractmethod
    def check(self, call: str, context: grpc.ServicerContext) -> None:
        """Return if the call may go on, else abort it."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Wrap the handler: only a handler sees the peer's certificate."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        call = str(handler_call_details.method)
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._checked(call, handler.stream_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._checked(call, handler.stream_unary),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._checked(call, handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._checked(call, handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _checked(self, call: str, behavior: Behavior | None) -> Behavior:
        assert behavior is not None, call

        def checked(request: Any, context: grpc.ServicerContext) -> Any:
            self.check(call, context)
            return behavior(request, context)

        return checked


class RoleInterceptor(CheckInterceptor):
    """Refuses every call of a peer that is not of the customer and in one of the roles."""

    def __init__(self, customer: str, roles: Collection[Role], refusals: Refusals) -> None:
        self._customer = customer
        self._roles = frozenset(roles)
        self._refusals = refusals

    def check(self, call: str, context: grpc.ServicerContext) -> None:
        """Abort a call whose certificate has another customer or role."""
        try:
            self._check(context)
        except (IdentityError, RefusedError) as error:
            self._refusals.refused(peer_text(context), call, end_of(error))
            abort(context, error)

    def _check(self, context: grpc.ServicerContext) -> None:
        identity = peer_identity(context)
        if identity.customer != self._customer:
            raise RefusedError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate belongs to customer {identity.customer!r}",
            )
        if identity.role not in self._roles:
            roles = " or ".join(sorted(role.value for role in self._roles))
            raise RefusedError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate is of {identity.role.value} {identity.name!r}; "
                f"this service is for role {roles}",
            )


class ActiveInterceptor(CheckInterceptor):
    """Refuses calls of our own services, but no health check, while this process is not active."""

    def __init__(self, inactive: Callable[[], str]) -> None:
        """``inactive`` returns why this control plane is not active; empty while it is."""
        self._inactive = inactive

    def check(self, call: str, context: grpc.ServicerContext) -> None:
        """Abort with the reason why this control plane is not active."""
        reason = self._inactive()
        if reason and call.startswith(OWN_SERVICES):
            abort(context, RefusedError(grpc.StatusCode.UNAVAILABLE, reason))


def peer_identity(context: grpc.ServicerContext) -> PeerIdentity:
    """Read the caller's identity from its certificate. Raises ``IdentityError``."""
    # grpcio's type information says one value a key; there are several.
    return identity_of_peer(cast(Mapping[str, Iterable[bytes]], context.auth_context()))


def peer_text(context: grpc.ServicerContext) -> str:
    """Name the caller for the log: role and name, else its address."""
    try:
        identity = peer_identity(context)
    except IdentityError:
        return peer_address(context)
    return f"{identity.role.value}:{identity.name}"


def peer_address(context: grpc.ServicerContext) -> str:
    """The caller's ``HOST:PORT``, from gRPC's ``ipv4:HOST:PORT``."""
    return str(context.peer()).partition(":")[2].replace("%5B", "[").replace("%5D", "]")
