"""Content credentials (C2PA): what was done to a file, signed, in the file itself or beside it.

The input is named as what was opened and nothing more: no file name, no hash, no thumbnail. Credentials that it has of
its own may hold a picture of the real face or its owner's name, and are left behind. Nothing is fetched while reading.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from engines import LocalKey, MediaError, SettingError, local_key, made_certificate_pem
from streamer.config import SigningSettings

SWAP = "vividstream.swap"  # label of our own assertion
SIDECAR = ".c2pa"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
LEARNED, DRAWN = SOURCE_TYPE + "compositeWithTrainedAlgorithmicMedia", SOURCE_TYPE + "compositeSynthetic"
EMBEDDED = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".gif": "image/gif"}
BESIDE = {".mkv", ".webm"}
ANY_BYTES = "application/octet-stream"
UNTRUSTED = "signingCredential.untrusted"
TITLE = "swapped video"
TRACES = (bytes.fromhex("d8fec3d61b0e483c92975828877ec481"), b"jumdc2pa", b"c2pa.claim")  # of manifests in files

State = Literal["none", "trusted", "unknown signer", "broken"]
Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Swap:
    """What a file's credentials say. `facts` become the assertion `vividstream.swap`."""

    version: str
    engine: str
    changed: bool  # False: pictures were passed through
    facts: Mapping[str, Fact]

    @property
    def source_type(self) -> str:
        return DRAWN if self.engine == "proxy" else LEARNED


@dataclass(frozen=True, slots=True)
class Link:
    """One manifest of the chain, the file's own first."""

    signer: str
    tool: str
    source_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was found in a file, or beside it.

    state     `none`; `trusted`: whole, and signed by this installation or under a root that is trusted;
              `unknown signer`: whole, signed by somebody; `broken`: the file or its credentials were changed
    swap      our own assertion, where there is one
    failures  codes of C2PA's reader, for `broken`
    """

    state: State
    chain: tuple[Link, ...] = ()
    swap: Mapping[str, Fact] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    beside: bool = False


def can_hold(path: Path) -> bool:
    """Whether files of this ending can have credentials, inside or beside them."""
    return path.suffix.lower() in EMBEDDED or path.suffix.lower() in BESIDE


def sidecar_of(path: Path) -> Path | None:
    """Where the credentials of a file lie that cannot hold them itself."""
    return path.with_suffix(SIDECAR) if path.suffix.lower() in BESIDE else None


def load_signer() -> None:
    """Imports what signs: where it is missing, that is found out before hours of work. Raises ImportError."""
    import c2pa  # noqa: F401


def sign_file(part: Path, name: Path, swap: Swap, signing: SigningSettings | None = None) -> None:
    """Puts credentials into `part`, in place, or beside where it will lie: at `sidecar_of(name)`.

    `name` is the file's final path. Raises MediaError where that fails, and SettingError for a certificate that cannot
    sign; `part` is then as it was.
    """
    import c2pa

    sealed = part.with_name(f"{part.name}.sealed")
    beside = sidecar_of(name)
    kind = EMBEDDED.get(name.suffix.lower(), ANY_BYTES)
    try:
        with c2pa.Builder(_manifest(swap), _context()) as builder:
            if beside is not None:
                builder.set_no_embed()
            with _signer(signing) as signer, part.open("rb") as source, sealed.open("w+b") as target:
                manifest = builder.sign(signer, kind, source, target)
                target.flush()
                os.fsync(target.fileno())
        if beside is None:
            sealed.replace(part)
        else:
            beside.write_bytes(manifest)
    except c2pa.C2paError as error:
        raise MediaError(f"{name}: no content credentials could be made: {_one_line(error)}") from error
    except OSError as error:
        raise MediaError(f"{name}: cannot be written: {error.strerror or error}") from error
    finally:
        sealed.unlink(missing_ok=True)


def read_credentials(path: Path, trusted_pem: str = "") -> Credentials:
    """Reads and checks a file's credentials. trusted_pem: roots, besides this installation's own.

    Raises MediaError for a file that cannot be read.
    """
    import c2pa

    context = _context(trusted_pem, made_certificate_pem().decode("ascii"))
    manifest: bytes | None = None
    try:
        manifest = _beside(path)
        with path.open("rb") as stream:
            kind = _kind(path)
            if manifest is None and kind is None:
                return Credentials("none")
            with c2pa.Reader(kind or ANY_BYTES, stream, manifest, context=context) as reader:
                return _said(reader, manifest is not None)
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
    except c2pa.C2paError.ManifestNotFound:
        return Credentials("none")
    except c2pa.C2paError.NotSupported:
        return Credentials("none")
    except c2pa.C2paError as error:
        if manifest is None and not _mentions_credentials(path):
            return Credentials("none")  # a damaged file that never had any
        return Credentials("broken", failures=(_one_line(error),))


def _said(reader: Any, beside: bool) -> Credentials:
    report = json.loads(reader.json())
    results = report.get("validation_results", {}).get("activeManifest", {})
    failures = tuple(dict.fromkeys(one["code"] for one in results.get("failure", ())))
    below = [one["code"] for delta in report.get("validation_results", {}).get("ingredientDeltas", ())
             for one in delta.get("validationDeltas", {}).get("failure", ()) if one["code"] != UNTRUSTED]  # fmt: skip
    wrong = tuple(code for code in failures if code != UNTRUSTED) + tuple(below)
    state: State = "broken" if wrong else "unknown signer" if failures else "trusted"
    manifests = report.get("manifests", {})
    chain = tuple(_link(manifests[label]) for label in _order(report.get("active_manifest"), manifests))
    active = manifests.get(report.get("active_manifest"), {})
    return Credentials(state, chain, _swap_facts(active), wrong, beside)


def _order(active: str | None, manifests: Mapping[str, Any]) -> list[str]:
    """Labels from the file's own manifest back to those of what it was made from."""
    found: list[str] = []
    waiting: list[str | None] = [active]
    while waiting:
        label = waiting.pop(0)
        if label is not None and label in manifests and label not in found:
            found.append(label)
            waiting += [one.get("active_manifest") for one in manifests[label].get("ingredients", ())]
    return found


def _link(manifest: Mapping[str, Any]) -> Link:
    signature, tools = manifest.get("signature_info", {}), manifest.get("claim_generator_info", ())
    tool = " ".join(str(tools[0].get(key, "")) for key in ("name", "version")).strip() if tools else ""
    actions = [action for one in manifest.get("assertions", ()) if one["label"].startswith("c2pa.actions")
               for action in one["data"].get("actions", ())]  # fmt: skip
    types = tuple(str(one["digitalSourceType"]).rpartition("/")[2] for one in actions if "digitalSourceType" in one)
    return Link(str(signature.get("common_name") or signature.get("issuer") or "nobody"), tool, types)


def _swap_facts(manifest: Mapping[str, Any]) -> dict[str, Fact]:
    for one in manifest.get("assertions", ()):
        if one["label"] == SWAP and isinstance(one["data"], dict):
            return {str(name): fact for name, fact in one["data"].items() if not isinstance(fact, dict | list)}
    return {}


def _manifest(swap: Swap) -> dict[str, Any]:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    agent = {"name": "vividstream", "version": swap.version}
    opened = {"action": "c2pa.opened", "when": when, "parameters": {"ingredientIds": ["input"]}}
    edited = {
        "action": "c2pa.edited", "when": when, "softwareAgent": agent, "digitalSourceType": swap.source_type,
        "description": "the face in the video was exchanged",
    }  # fmt: skip
    passed = {"action": "c2pa.transcoded", "when": when, "softwareAgent": agent}
    actions = {"actions": [opened, edited if swap.changed else passed]}
    return {
        "claim_generator_info": [agent],
        "title": TITLE,
        "ingredients": [{"title": "recording", "format": ANY_BYTES, "relationship": "parentOf", "label": "input"}],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": actions},
            {"label": SWAP, "data": {**swap.facts, "engine": swap.engine}},
        ],
    }


def _context(*trusted_pem: str) -> Any:
    """How to sign and read. Raises SettingError where what is to be trusted is no certificate."""
    import c2pa

    settings: dict[str, Any] = {
        "version": 1,
        "verify": {"verify_after_sign": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    roots = "\n".join(filter(None, trusted_pem))
    if roots:
        settings["trust"] = {"user_anchors": roots}
    try:
        return c2pa.Context.from_dict(settings)
    except c2pa.C2paError as error:
        raise SettingError(f"no certificates in PEM to trust: {_one_line(error)}") from error


def _signer(signing: SigningSettings | None) -> Any:
    import c2pa

    if signing is not None and (signing.certificate is None) != (signing.certificate_key is None):
        raise SettingError('setting "certificate": a certificate and its key are given together')
    if signing is None or signing.certificate is None or signing.certificate_key is None:
        key: LocalKey = local_key()
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"ed25519", key.certificate_pem(), key.private_pem(), None))
    try:
        chain, private = signing.certificate.read_bytes(), signing.certificate_key.read_bytes()
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(_algorithm(private), chain, private, None))
    except OSError as error:
        raise SettingError(f'setting "certificate": {error.filename}: {error.strerror}') from error
    except c2pa.C2paError as error:
        raise SettingError(f'setting "certificate": {signing.certificate} cannot sign: {_one_line(error)}') from error


def _algorithm(private_pem: bytes) -> bytes:
    """C2PA's name of the signature that a key makes. Raises SettingError."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_pem, None)
    except (ValueError, TypeError) as error:
        raise SettingError('setting "certificate_key": no private key in PEM, or one with a password') from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return b"ps256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in (256, 384, 521):
        return {256: b"es256", 384: b"es384", 521: b"es512"}[key.curve.key_size]
    raise SettingError('setting "certificate_key": an EC (P-256, P-384, P-521), Ed25519 or RSA key is needed')


def _beside(path: Path) -> bytes | None:
    beside = sidecar_of(path)
    return beside.read_bytes() if beside is not None and beside.is_file() else None


def _kind(path: Path) -> str | None:
    """The file's kind for the reader: by its ending, as C2PA's libraries do."""
    import c2pa

    ending = path.suffix.lower().lstrip(".")
    kind = EMBEDDED.get(path.suffix.lower())
    return kind or (ending if ending in c2pa.Reader.get_supported_mime_types() else None)


def _mentions_credentials(path: Path) -> bool:
    """Whether there is anything of a manifest in a file, be it damaged."""
    before = b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if any(trace in before + block for trace in TRACES):
                return True
            before = block[-64:]
    return False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
