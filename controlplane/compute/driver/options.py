"""The section `[vsphere_gateway]` of a worker's configuration."""

from oslo_config import cfg

GROUP = "vsphere_gateway"

OPTIONS = [
    cfg.StrOpt("socket", help="Unix socket on which the control plane serves its workers."),
    cfg.IntOpt(
        "operation_timeout",
        default=600,
        min=10,
        help="Seconds that an operation may take in vCenter, a guest's grace not counted.",
    ),
    cfg.IntOpt(
        "clone_timeout", default=7200, min=60, help="Seconds that a clone of a template may take."
    ),
    cfg.IntOpt(
        "diagnostics_timeout",
        default=30,
        min=1,
        help="Seconds that diagnostics may take; less than Nova's rpc_response_timeout.",
    ),
    cfg.ListOpt(
        "datastores",
        default=[],
        help="Names of the datastores that new servers may use, as globs; all when empty.",
    ),
]


def register(conf: cfg.ConfigOpts) -> None:
    """Add the section to a configuration; again does nothing."""
    conf.register_opts(OPTIONS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for ``oslo-config-generator``."""
    return [(GROUP, OPTIONS)]
