"""Where the cloud's parts are: folders, ports, URLs, databases and passwords."""

import sysconfig
from pathlib import Path

from tools.servers.mariadb import MariaDB
from tools.servers.rabbitmq import RabbitMQ
from tools.servers.state import LOOPBACK, Port, folder, password

REGION = "RegionOne"
DOMAIN = "Default"
SERVICE_PROJECT = "service"
ADMIN = "admin"
DEMO = "demo"
SERVICE_USERS = ("nova", "placement", "glance", "neutron")
DATABASES = {
    "keystone": ("keystone",),
    "nova": ("nova_api", "nova_cell0", "nova_cell1"),
    "neutron": ("neutron",),
    "glance": ("glance",),
    "placement": ("placement",),
}
SCRIPTS = Path(sysconfig.get_path("scripts"))
# Paste configurations come with the packages.
PACKAGED_ETC = Path(sysconfig.get_path("data")) / "etc"


class Layout:
    """Names and addresses of one cloud; makes nothing but folders and a password."""

    def __init__(self) -> None:
        self.folder = folder("cloud")
        self.logs = folder("cloud/logs")
        self.mariadb = MariaDB()
        self.rabbitmq = RabbitMQ()
        self.password = password(self.folder / "password")

    def service_folder(self, service: str) -> Path:
        """A service's configuration and state."""
        return folder(f"cloud/{service}")

    def file(self, service: str, name: str) -> Path:
        """A file in a service's folder."""
        return self.service_folder(service) / name

    @property
    def nova_conf(self) -> Path:
        """Nova's configuration: api, scheduler and conductor share it."""
        return self.file("nova", "nova.conf")

    @property
    def glance_conf(self) -> Path:
        """Glance's configuration."""
        return self.file("glance", "glance-api.conf")

    @property
    def openrc(self) -> Path:
        """Shell file with the administrator's OS_* variables."""
        return self.folder / "openrc"

    @property
    def demo_openrc(self) -> Path:
        """Shell file with the demo user's OS_* variables."""
        return self.folder / "demo-openrc"

    @staticmethod
    def url(port: Port, path: str = "") -> str:
        """Address of a service."""
        return f"http://{LOOPBACK}:{port.number}{path}"

    @property
    def auth_url(self) -> str:
        """Keystone."""
        return self.url(Port.KEYSTONE, "/v3")

    def database_url(self, database: str) -> str:
        """SQLAlchemy URL of one of DATABASES."""
        return self.mariadb.url(database)

    @property
    def transport_url(self) -> str:
        """The bus that all services share."""
        return self.rabbitmq.transport_url()

    def environment(self, user: str = ADMIN, project: str | None = None) -> dict[str, str]:
        """OS_* variables of a user, whose project has the same name unless given."""
        return {
            "OS_AUTH_TYPE": "password",
            "OS_AUTH_URL": self.auth_url,
            "OS_USERNAME": user,
            "OS_PASSWORD": self.password,
            "OS_PROJECT_NAME": project or user,
            "OS_USER_DOMAIN_NAME": DOMAIN,
            "OS_PROJECT_DOMAIN_NAME": DOMAIN,
            "OS_REGION_NAME": REGION,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_COMPUTE_API_VERSION": "2.96",
            "PYTHONWARNINGS": "ignore",
        }
