"""Clients of OpenStack's services, each with a session of a user that `nova.conf` names."""

from keystoneauth1 import exceptions as keystone_exceptions
from keystoneauth1 import loading as keystone_loading
from keystoneauth1.adapter import Adapter

from controlplane.config.nova_config import NovaConfig, NovaConfigError

ADMINISTRATORS = ("service_user", "placement", "keystone_authtoken")
"""Sections of `nova.conf` whose user may be an administrator, in this order."""
REQUEST_ERRORS = (
    keystone_exceptions.ClientException,
    keystone_exceptions.DiscoveryFailure,
)
"""What a request through an adapter may raise: Keystone or the service cannot be used."""


def connect(
    config: NovaConfig, service_type: str, microversion: str, sections: tuple[str, ...]
) -> Adapter:
    """Make a client for one service with the user of the first usable section.

    Failed requests are returned, not raised. Raises ``NovaConfigError``.
    """
    options = config.options
    section = _usable_section(config, sections)
    try:
        auth = keystone_loading.load_auth_from_conf_options(options, section)
    except keystone_exceptions.AuthPluginException as error:
        raise NovaConfigError(f"{config.file}: [{section}] auth_type: {error}") from error
    session = keystone_loading.load_session_from_conf_options(options, section, auth=auth)
    keystone_loading.register_adapter_conf_options(options, "placement", include_deprecated=False)
    own = options.placement if service_type == "placement" else None
    return Adapter(
        session=session,
        service_type=service_type,
        # The one section that says which region this nova.conf is of.
        region_name=options.placement.region_name,
        interface=(own.valid_interfaces if own else None) or ["internal", "public"],
        endpoint_override=own.endpoint_override if own else None,
        default_microversion=microversion,
        raise_exc=False,
        connect_retries=2,
    )


def _usable_section(config: NovaConfig, sections: tuple[str, ...]) -> str:
    for section in sections:
        keystone_loading.register_session_conf_options(config.options, section)
        keystone_loading.register_auth_conf_options(config.options, section)
        if config.options[section].auth_type:
            return section
    names = " or ".join(f"[{section}]" for section in sections)
    raise NovaConfigError(f"{config.file}: no auth_type in {names}")
