"""Tags by vCenter's REST API, which the SOAP API does not have.

``/api`` is vSphere 7.0 U2 and later, ``/rest/com/vmware/cis`` what came before; a vCenter has at
least one of them. Source: vSphere Automation API, cis.tagging.
"""

import base64
import contextlib
import dataclasses
import json
from collections import defaultdict
from typing import Any, Final
from urllib.parse import quote

from common.references import Key, make_key
from edge.errors import EdgeError
from edge.vcenter.client import faults
from edge.vcenter.client.session import VCenterSession

_DEADLINE_SECONDS: Final = 20.0
_SESSION_HEADER: Final = "vmware-api-session-id"
_TAGS_AT_ONCE: Final = 100


@dataclasses.dataclass(frozen=True, slots=True)
class _Tag:
    name: str
    category_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Paths:
    """Where a generation of the API has its resources; ``{}`` stands for an identifier."""

    session: str
    tags: str
    tag: str
    category: str
    attached: str


_API: Final = _Paths(
    session="/api/session",
    tags="/api/cis/tagging/tag",
    tag="/api/cis/tagging/tag/{}",
    category="/api/cis/tagging/category/{}",
    attached="/api/cis/tagging/tag-association?action=list-attached-objects-on-tags",
)
_REST: Final = _Paths(
    session="/rest/com/vmware/cis/session",
    tags="/rest/com/vmware/cis/tagging/tag",
    tag="/rest/com/vmware/cis/tagging/tag/id:{}",
    category="/rest/com/vmware/cis/tagging/category/id:{}",
    attached="/rest/com/vmware/cis/tagging/tag-association?~action=list-attached-objects-on-tags",
)


class TaggingService:
    """The tags of virtual machines, over one REST session that is kept."""

    def __init__(self, session: VCenterSession) -> None:
        self._session = session
        self._paths: _Paths | None = None
        self._token = ""
        self._refusal: faults.LoginRefusedError | None = None
        self._refused_generation = 0
        self._tags: dict[str, _Tag] = {}
        self._categories: dict[str, str] = {}

    def read_tags(self) -> dict[Key, tuple[str, ...]]:
        """Read the tags, as sorted ``category:name`` by virtual machine.

        Names of tags and categories are read once and kept, as vCenter reports no changes of them.
        Raises ``VCenterError``.
        """
        try:
            try:
                return self._read()
            except faults.SessionExpiredError:
                self._token = ""
                return self._read()
        except (KeyError, TypeError) as error:
            raise faults.UnexpectedAnswerError(
                f"the tagging service's answer has another form: {error!r}"
            ) from error

    def forget_names(self) -> None:
        """Read the names of tags and categories afresh the next time."""
        self._tags.clear()
        self._categories.clear()

    def close(self) -> None:
        """End the REST session. Never raises because of vCenter."""
        if self._token and self._paths is not None:
            with contextlib.suppress(faults.VCenterError):
                self._request("DELETE", self._paths.session)
        self._token = ""

    def _read(self) -> dict[Key, tuple[str, ...]]:
        paths = self._login()
        identifiers = [str(each) for each in self._request("GET", paths.tags) or []]
        for gone in self._tags.keys() - set(identifiers):
            del self._tags[gone]
        found: dict[Key, list[str]] = defaultdict(list)
        for at in range(0, len(identifiers), _TAGS_AT_ONCE):
            asked = {"tag_ids": identifiers[at : at + _TAGS_AT_ONCE]}
            for attached in self._request("POST", paths.attached, asked) or []:
                machines = [
                    make_key("VirtualMachine", each["id"])
                    for each in attached["object_ids"] or ()
                    if each["type"] == "VirtualMachine"
                ]
                if machines:
                    name = self._full_name(paths, attached["tag_id"])
                    for key in machines:
                        found[key].append(name)
        return {key: tuple(sorted(names)) for key, names in found.items()}

    def _full_name(self, paths: _Paths, identifier: str) -> str:
        tag = self._tags.get(identifier)
        if tag is None:
            answer = self._request("GET", _resource(paths.tag, identifier))
            tag = self._tags[identifier] = _Tag(answer["name"], answer["category_id"])
        category = self._categories.get(tag.category_id)
        if category is None:
            answer = self._request("GET", _resource(paths.category, tag.category_id))
            category = self._categories[tag.category_id] = answer["name"]
        return f"{category}:{tag.name}"

    def _login(self) -> _Paths:
        """Log in, unless the last attempt was refused and no login by SOAP was made since."""
        if self._token and self._paths is not None:
            return self._paths
        if self._refusal is not None and self._refused_generation == self._session.generation:
            raise self._refusal
        for paths in (self._paths,) if self._paths else (_API, _REST):
            try:
                self._token = self._open_session(paths)
            except _NoSuchResourceError:
                continue
            self._paths = paths
            return paths
        raise faults.UnexpectedAnswerError("vCenter has no tagging service")

    def _open_session(self, paths: _Paths) -> str:
        settings = self._session.settings
        try:
            credentials = f"{settings.username}:{settings.read_password()}".encode()
            headers = {"Authorization": "Basic " + base64.b64encode(credentials).decode()}
            return str(self._request("POST", paths.session, headers=headers))
        except (faults.SessionExpiredError, EdgeError) as error:
            self._refused_generation = self._session.generation
            self._refusal = faults.LoginRefusedError(f"the tagging service refuses: {error}")
            raise self._refusal from error

    def _request(
        self,
        method: str,
        path: str,
        content: object = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        body = b"" if content is None else json.dumps(content).encode()
        sent = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        if self._token and headers is None:
            sent[_SESSION_HEADER] = self._token
        answer = self._session.pool.request(method, path, body, sent, _DEADLINE_SECONDS)
        try:
            parsed = json.loads(answer.body) if answer.body.strip() else None
        except ValueError as error:
            parsed = None
            if answer.status == 200:
                raise faults.UnexpectedAnswerError(f"{path} answers no JSON") from error
        _check(answer.status, method, path)
        # The older generation wraps what it returns.
        return parsed["value"] if isinstance(parsed, dict) and set(parsed) == {"value"} else parsed


def _resource(path: str, identifier: str) -> str:
    return path.format(quote(identifier, safe=""))


class _NoSuchResourceError(faults.UnexpectedAnswerError):
    """This vCenter does not have this generation of the API."""


def _check(status: int, method: str, path: str) -> None:
    if status in (200, 201, 204):
        return
    text = f"{method} {path} answers HTTP {status}"
    if status == 401:
        raise faults.SessionExpiredError(text)
    if status == 403:
        raise faults.PermissionDeniedError(text, "tagging", path)
    if status in (404, 405, 501):
        raise _NoSuchResourceError(text)
    raise faults.VCenterUnreachableError(text)
