"""Where Nova finds the driver: `compute_driver = vsphere_gateway.GatewayDriver`.

Nova loads drivers from the package `nova.virt` and from nowhere else; the launcher appends this
folder to that package's path.
"""

from controlplane.compute.driver.driver import GatewayDriver

__all__ = ["GatewayDriver"]
