"""A fake of what vcsim lacks: a vCenter that shows its user only part of the inventory.

It stands before a vcsim and passes on what the two say to each other, except about virtual machines
that are hidden: those are in no answer that lists objects, and asked for by reference they are
refused with NoPermission, as vCenter does, or answered with nothing, as a vCenter does whose
database or session has just gone (pyvmomi issue 43). It can also lose its connection in the middle
of an answer, or leave one request without any.
"""

import http.client
import http.server
import re
import ssl
import threading
from collections.abc import Iterable

from lxml import etree

from tools.servers.state import LOOPBACK
from tools.servers.vcsim import Vcsim

ASKED = re.compile(rb'<obj type="VirtualMachine">([^<]+)</obj>')
LISTED = ("objects", "objectSet")
PASSED_ON = ("Authorization", "Content-Type", "Cookie", "SOAPAction", "vmware-api-session-id")
PASSED_BACK = ("Content-Type", "Set-Cookie")
SECONDS = 120
NO_PERMISSION = """\
<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault>
<faultcode>ServerFaultCode</faultcode>
<faultstring>Permission to perform this operation was denied.</faultstring>
<detail><NoPermissionFault xmlns="urn:vim25" xsi:type="NoPermission">
<object type="VirtualMachine">{moref}</object><privilegeId>System.Read</privilegeId>
</NoPermissionFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>
"""


class RestrictedVCenter:
    """Is dialled like the vcsim behind it, with the same certificate and login."""

    def __init__(self, simulator: Vcsim) -> None:
        self.host = LOOPBACK
        self.username, self.password = simulator.username, simulator.password
        self.ca_file = simulator.ca_file
        self._simulator = simulator
        self._hidden: frozenset[str] = frozenset()
        self._refused: frozenset[str] = frozenset()
        self._refuses = True
        self._asked = self._cut = b""
        self.since_cut: list[bytes] | None = None
        """Requests since an answer was cut short; None when none was."""
        self._kept = b""
        self.keeps = threading.Event()
        """Set while a request is left without an answer."""
        self._let_go = threading.Event()
        self._server = http.server.ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        files = simulator.certificate
        context.load_cert_chain(files.certificate, files.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._client_context = ssl.create_default_context(cafile=simulator.ca_file)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def hide(self, morefs: Iterable[str], *, refuses: bool = True) -> None:
        """Hide virtual machines, and no others; ``refuses`` is whether NoPermission is said."""
        self._hidden, self._refuses = frozenset(morefs), refuses

    def refuse_reads(self, morefs: Iterable[str]) -> None:
        """Refuse virtual machines to who asks for them by reference, and go on to list them."""
        self._refused = frozenset(morefs)

    def cut_short(self, asked: bytes, told: bytes) -> None:
        """Break off the next answer that tells ``told`` to a request with ``asked``, after that."""
        self._asked, self._cut = asked, told

    def keep_waiting(self, asked: bytes) -> None:
        """Leave the next request with ``asked`` unanswered until ``answer_all``."""
        self.keeps.clear()
        self._let_go.clear()
        self._kept = asked

    def answer_all(self) -> None:
        """Answer the request that was left waiting."""
        self._kept = b""
        self._let_go.set()

    def show_everything(self) -> None:
        """Hide and refuse nothing any more."""
        self._hidden = self._refused = frozenset()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> "Answer":
        """Have vcsim answer, and take out what is hidden."""
        if self.since_cut is not None:
            self.since_cut.append(body)
        if self._kept and self._kept in body:
            self._kept = b""
            self.keeps.set()
            self._let_go.wait(SECONDS)
        hidden = self._hidden
        asked = {moref.decode() for moref in ASKED.findall(body)}
        denied = asked & (self._refused | hidden if self._refuses else self._refused)
        if denied and b"RetrievePropertiesEx" in body:
            text = NO_PERMISSION.format(moref=min(denied))
            return Answer(500, {"Content-Type": "text/xml; charset=utf-8"}, text.encode())
        answer = self._pass_on(method, path, body, headers)
        # What is hidden meanwhile counts too: a wait may have begun before.
        answer = answer.without(self._hidden) if path == "/sdk" else answer
        if self._cut and self._asked in body and self._cut in answer.body:
            end = answer.body.index(self._cut) + len(self._cut)
            self._cut, self.since_cut = b"", []
            return Answer(answer.status, answer.headers | answer.length, answer.body[:end])
        return answer

    def _pass_on(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> "Answer":
        upstream = http.client.HTTPSConnection(
            LOOPBACK, self._simulator.port, context=self._client_context, timeout=SECONDS
        )
        try:
            upstream.request(method, path, body, headers)
            answer = upstream.getresponse()
            kept = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
            return Answer(answer.status, kept, answer.read())
        finally:
            upstream.close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        vcenter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """One connection of the edge."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True  # the edge has hung up, or vcsim has

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
                answer = vcenter.answer(self.command, self.path, body, headers)
                self.send_response(answer.status)
                for name, value in (answer.length | answer.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)
                if "Content-Length" in answer.headers:
                    self.close_connection = True  # more was promised than is there

            def do_GET(self) -> None:
                self.do_POST()

            def do_DELETE(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


def is_listed(reference: etree._Element) -> bool:
    """Tell whether a reference stands in a view's list, and is no property of another object."""
    objects = next(reference.iterancestors("{urn:vim25}objects"), None)
    subject = None if objects is None else objects.find("{urn:vim25}obj")
    return subject is not None and subject.get("type") == "ContainerView"


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def length(self) -> dict[str, str]:
        """The header that says how long it is."""
        return {"Content-Length": str(len(self.body))}

    def without(self, morefs: frozenset[str]) -> "Answer":
        """Return the same without any word about virtual machines."""
        if not morefs or self.status != 200:
            return self
        root = etree.fromstring(self.body, etree.XMLParser(huge_tree=True))
        for reference in root.findall(".//{urn:vim25}val/{urn:vim25}ManagedObjectReference"):
            if reference.text in morefs and is_listed(reference):
                reference.getparent().remove(reference)
        for name in LISTED:
            for element in root.findall(f".//{{urn:vim25}}{name}"):
                if element.findtext("{urn:vim25}obj") in morefs:
                    element.getparent().remove(element)
        return Answer(self.status, self.headers, etree.tostring(root, xml_declaration=True))
