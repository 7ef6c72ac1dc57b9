"""One session with vCenter, shared by the collector and the operations.

Every request goes through ``VCenterSession.soap``: the collector's own SOAP, and pyVmomi's calls
by way of a stub adapter. So there is one cookie, one pool of checked connections, one deadline
rule, and one place where third-party exceptions become ``edge.vcenter.client.faults``.
"""

import functools
import http.cookies
import logging
import threading
from typing import Any, Final
from xml.parsers.expat import ExpatError

from lxml import etree
from pyVmomi import VmomiSupport, vim
from pyVmomi.SoapAdapter import SoapResponseDeserializer, SoapStubAdapterBase

from common.log_fields import fields
from common.references import Key, make_key
from edge.config import VCenterSettings
from edge.vcenter.client import faults
from edge.vcenter.client.connection import Answer, ConnectionPool
from vsphere_gateway.v1 import inventory_pb2

log = logging.getLogger(__name__)

CALL_DEADLINE_SECONDS: Final = 120.0
"""For a call that does not wait; the slowest known is a read of everything."""
WAIT_MARGIN_SECONDS: Final = 30.0
"""A call that waits ends on the server's side after its own time; this is what it may be late."""
_LOGOUT_DEADLINE_SECONDS: Final = 5.0
_SDK_PATH: Final = "/sdk"
_FIRST_VERSION: Final = "6.7"
"""vSphere API version for the first call, whose answer names the version that vCenter speaks."""
# What pyVmomi's parser raises for a type, property or value that it does not know.
_UNKNOWN_TYPE: Final = (KeyError, TypeError, ValueError, AttributeError)


class VCenterSession:
    """A login to vCenter that is kept, renewed when it expires, and ended by ``close``.

    Whoever supervises the connection calls ``connect``, and again after an error; it alone retries
    a refused login. Operations that find the session expired log in again by themselves, but never
    after a refusal, so that many of them cannot lock the account. vCenter ends a session that is
    idle for 30 minutes (by default): the collector's wait, renewed each minute, keeps it alive.
    """

    def __init__(self, settings: VCenterSettings) -> None:
        """Raises ``CertificateNotTrustedError`` when ``ca_file`` cannot be used."""
        self.settings = settings
        self.pool = ConnectionPool(settings)
        self.generation = 0
        """Grows with every login. A filter belongs to the generation that it was made in."""
        self.login_refusals = 0
        """Refused logins since the last good one, for the caller's retry policy."""
        self._cookie = ""
        self._content: vim.ServiceInstanceContent | None = None
        self._version = VmomiSupport.versionMap[f"vim25/{_FIRST_VERSION}"]
        self._refusal: faults.LoginRefusedError | None = None
        # Reentrant: when the session ends while a login reads its content, the stub calls renew,
        # which then raises, as there is no login to renew.
        self._login_lock = threading.RLock()

    def connect(self) -> None:
        """Log in, or make sure that the present login is good. Returns with a usable session.

        Raises ``VCenterError`` (``LoginRefusedError``, ``CertificateNotTrustedError``,
        ``VCenterUnreachableError``, ...) and ``edge.errors.SecretUnreadableError``.
        """
        with self._login_lock:
            if self._content is not None and self._is_authenticated():
                return
            self._login()

    def renew(self, expired_generation: int) -> None:
        """Log in again, unless another thread already did or vCenter refused the last login.

        Raises like ``connect``.
        """
        with self._login_lock:
            if self.generation != expired_generation:
                return
            if self._refusal is not None:
                raise self._refusal
            if self._content is None:
                raise faults.SessionExpiredError("not logged in to vCenter")
            log.info("session expired, logging in again", extra=fields(vcenter=self.settings.host))
            self._login()

    def verify_alive(self) -> None:
        """Make sure that vCenter still knows the login.

        Raises ``SessionExpiredError`` when it does not; it is not renewed here.
        """
        if not self._is_authenticated():
            raise faults.SessionExpiredError("vCenter no longer knows the session")

    def close(self) -> None:
        """Log out and close all connections. Never raises because of vCenter.

        Does not wait for a login under way that vCenter leaves unanswered.
        """
        if self._login_lock.acquire(timeout=_LOGOUT_DEADLINE_SECONDS):
            try:
                self._end_login()
            finally:
                self._login_lock.release()
        self.pool.close()

    @property
    def content(self) -> vim.ServiceInstanceContent:
        """vCenter's managers and root folder. Raises ``SessionExpiredError`` before ``connect``."""
        if self._content is None:
            raise faults.SessionExpiredError("not logged in to vCenter")
        return self._content

    @property
    def root_folder(self) -> Key:
        """The folder above all datacenters. Raises ``SessionExpiredError`` before ``connect``."""
        return make_key("Folder", self.content.rootFolder._moId)

    @property
    def api_version(self) -> str:
        """The vSphere API version that is spoken, for example ``8.0.3.0``."""
        return str(VmomiSupport.GetVersionNamespace(self._version)).rpartition("/")[2]

    @property
    def is_logged_in(self) -> bool:
        """Whether a login was made and not ended; it may have expired meanwhile."""
        return self._content is not None

    def vcenter(self) -> inventory_pb2.VCenter:
        """Describe vCenter. Raises ``SessionExpiredError`` before ``connect``."""
        about = self.content.about
        return inventory_pb2.VCenter(
            instance_uuid=about.instanceUuid or "",
            full_name=about.fullName,
            version=about.version,
            build=about.build,
            api_version=about.apiVersion,
        )

    def managed_object(self, reference: inventory_pb2.ObjectReference) -> Any:
        """pyVmomi's object for a reference; calls on it raise ``VCenterError`` only."""
        return VmomiSupport.GetWsdlType("urn:vim25", reference.type)(reference.value, self.stub)

    @functools.cached_property
    def stub(self) -> "_Stub":
        """pyVmomi's stub adapter over this session, which logs in again when it must."""
        return _RenewingStub(self)

    def vsphere_object(self, body: bytes, kind: Any) -> Any:
        """Have pyVmomi make its object of an answer that ``soap`` returned; None if it has none.

        Raises ``UnexpectedAnswerError``.
        """
        return self.stub.parse(body, kind)

    def soap(self, envelope: bytes, deadline_seconds: float = CALL_DEADLINE_SECONDS) -> bytes:
        """Send one SOAP envelope and return the answer's body.

        Raises ``VCenterError``; a SOAP fault as its type (``SessionExpiredError`` when vCenter
        does not know the cookie). The session is not renewed here.
        """
        headers = {
            "Content-Type": "text/xml; charset=UTF-8",
            "SOAPAction": f'"urn:{VmomiSupport.GetVersionNamespace(self._version)}"',
        }
        if self._cookie:
            headers["Cookie"] = self._cookie
        answer = self.pool.request("POST", _SDK_PATH, envelope, headers, deadline_seconds)
        if answer.status not in (200, 500):
            raise faults.VCenterUnreachableError(
                f"{self.settings.host}:{self.settings.port} answers HTTP {answer.status}"
                " instead of SOAP: is it a vCenter, and are its services up?"
            )
        self._keep_cookie(answer)
        if answer.status == 500:
            raise _soap_fault(answer.body)
        return answer.body

    def _keep_cookie(self, answer: Answer) -> None:
        for given in answer.headers.getlist("Set-Cookie"):
            for name, morsel in http.cookies.SimpleCookie(given).items():
                if name == "vmware_soap_session":
                    self._cookie = f"{name}={morsel.coded_value}"

    def _login(self) -> None:
        self._cookie, self._content = "", None
        about = vim.ServiceInstance("ServiceInstance", _Stub(self)).RetrieveContent().about
        self._version = _newest_version(about.apiVersion)
        password = self.settings.read_password()
        try:
            self._session_manager().Login(self.settings.username, password)
        except faults.LoginRefusedError as error:
            self.login_refusals += 1
            self._refusal = _explained_refusal(self.settings, error)
            raise self._refusal from error
        self._refusal, self.login_refusals = None, 0
        self.generation += 1
        self.__dict__.pop("stub", None)
        self._content = vim.ServiceInstance("ServiceInstance", self.stub).RetrieveContent()
        log.info(
            "logged in", extra=fields(vcenter=self.settings.host, api_version=self.api_version)
        )

    def _end_login(self) -> None:
        logged_in, self._content = self._content is not None, None
        if logged_in:
            try:
                self._logout()
            except faults.VCenterError as error:
                facts = fields(vcenter=self.settings.host, error=error)
                log.warning("logout failed", extra=facts)
        self._cookie = ""

    def _is_authenticated(self) -> bool:
        try:
            return self._session_manager().currentSession is not None
        except (faults.SessionExpiredError, faults.PermissionDeniedError):
            return False

    def _logout(self) -> None:
        try:
            self._session_manager(_LOGOUT_DEADLINE_SECONDS).Logout()
        except faults.SessionExpiredError:
            return
        log.info("logged out", extra=fields(vcenter=self.settings.host))

    def _session_manager(self, deadline_seconds: float = CALL_DEADLINE_SECONDS) -> Any:
        """The session manager over a stub that never logs in by itself."""
        return vim.SessionManager("SessionManager", _Stub(self, deadline_seconds))


class _Stub(SoapStubAdapterBase):
    """pyVmomi's serialiser and parser over our session."""

    def __init__(
        self, session: VCenterSession, deadline_seconds: float = CALL_DEADLINE_SECONDS
    ) -> None:
        self.requestContext: dict[str, str] = {}
        self._session = session
        self._deadline_seconds = deadline_seconds
        super().__init__(session._version)  # type: ignore[no-untyped-call]

    def InvokeMethod(self, mo: Any, info: Any, args: Any) -> Any:
        """Call one method. Raises ``VCenterError``."""
        envelope = self.SerializeRequest(mo, info, args)  # type: ignore[no-untyped-call]
        return self.parse(self._session.soap(envelope, self._deadline_seconds), info.result)

    def parse(self, body: bytes, result_type: Any) -> Any:
        """Make the result of a call. Raises ``UnexpectedAnswerError``."""
        try:
            return SoapResponseDeserializer(self).Deserialize(body, result_type)
        except faults.THIRD_PARTY as error:
            raise faults.translate(error) from error
        except _UNKNOWN_TYPE as error:
            raise faults.UnexpectedAnswerError(
                f"pyVmomi cannot read vCenter's answer: {error!r}"
            ) from error

    def __deepcopy__(self, memo: object) -> "_Stub":
        return self


class _RenewingStub(_Stub):
    """Logs in again when the session expired; the call was not executed, so it is repeated."""

    def InvokeMethod(self, mo: Any, info: Any, args: Any) -> Any:
        """Call one method. Raises ``VCenterError``."""
        generation = self._session.generation
        try:
            return super().InvokeMethod(mo, info, args)
        except faults.SessionExpiredError:
            self._session.renew(generation)
            return super().InvokeMethod(mo, info, args)


def _newest_version(api_version: str) -> Any:
    """The newest API version that vCenter and pyVmomi both know."""
    known = [name for name in VmomiSupport.versionMap if name.startswith("vim25/")]
    wanted = _version_key(api_version)
    usable = [name for name in known if _FIRST_KEY <= _version_key(name[6:]) <= wanted]
    best = max(usable, key=lambda name: _version_key(name[6:]), default=f"vim25/{_FIRST_VERSION}")
    return VmomiSupport.versionMap[best]


def _version_key(version: str) -> tuple[int, ...]:
    """A sortable form; what is not a release (``m5CA1EF4D``, ``2.5u2``) sorts before all."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


_FIRST_KEY: Final = _version_key(_FIRST_VERSION)


def _explained_refusal(
    settings: VCenterSettings, error: faults.LoginRefusedError
) -> faults.LoginRefusedError:
    return faults.LoginRefusedError(
        f"vCenter {settings.host} refuses the login of {settings.username} ({error}): correct"
        " vcenter.username or the password",
        error.vsphere_fault,
    )


def _soap_fault(body: bytes) -> faults.VCenterError:
    """Turn a SOAP fault into our type, also where pyVmomi has no type for it."""
    try:
        return faults.translate(SoapResponseDeserializer(None).Deserialize(body, object))
    except (*_UNKNOWN_TYPE, ExpatError):
        return _unknown_fault(body)


def _unknown_fault(body: bytes) -> faults.VCenterError:
    try:
        root = etree.fromstring(body)
    except etree.XMLSyntaxError as error:
        return faults.translate(error)
    detail = root.find(".//{*}detail/*")
    name = "" if detail is None else etree.QName(detail).localname.removesuffix("Fault")
    return faults.unknown_fault(name, root.findtext(".//{*}faultstring") or "")
