"""Binds ports on every host of the one-machine cloud, where no neutron agent runs."""

from typing import Any

from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api

# A port of a distributed virtual switch, as Nova names it (nova/network/model.py).
VIF_TYPE = "dvs"


class OneMachineMechanismDriver(api.MechanismDriver):  # type: ignore[misc]
    """Says that a port is wired as soon as Nova asks for it.

    Neutron's own mechanism drivers each want an agent, or a switch, that reports the host.
    """

    def initialize(self) -> None:
        """Do nothing: there is neither switch nor agent to talk to."""

    @property
    def connectivity(self) -> str:
        """What a bound port reaches: the network itself."""
        return str(portbindings.CONNECTIVITY_L2)

    def bind_port(self, context: Any) -> None:
        """Bind to the first segment, as a distributed virtual switch would."""
        segment = context.segments_to_bind[0]
        context.set_binding(
            segment[api.ID],
            VIF_TYPE,
            {portbindings.CAP_PORT_FILTER: False},
            status="ACTIVE",
        )
