"""`vividstream enroll`: photo files in, one signed identity file out; with a live clip, if there is one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from engines import (
    Agreement,
    ConsentMissing,
    IdentityError,
    IdentityStore,
    Manifest,
    MediaError,
    Rgb,
    UnsuitablePhoto,
    agree,
    check_clip,
    enroll,
    local_key,
    looks_of,
    watch_clip,
)
from streamer.audit.log import record
from streamer.challenges import Challenges
from streamer.config import AgreementSettings, EnrollConfig
from streamer.frame import Frame
from streamer.media import MediaReader
from streamer.photo import read_photo

log = logging.getLogger(__name__)


def run_enroll(config: EnrollConfig) -> None:
    """Writes the identity file, whole or not at all, and says where the identity can be used.

    Raises ConsentMissing, UnsuitablePhoto, or IdentityError for a name that is taken or impossible.
    """
    now = datetime.now(UTC)
    store = IdentityStore(config.identities_dir)
    if config.name in store.built_in():
        raise IdentityError(f'identity "{config.name}" is built in and cannot be changed; take another name')
    if config.name in store.names() and not config.overwrite:
        raise IdentityError(f'identity "{config.name}" exists already; --overwrite replaces it')
    agreement = agreement_of(config.agreement, now)
    local_key()  # what cannot be signed in the end is not begun
    photos = [read_photo(path) for path in config.images]
    for path, photo in zip(config.images, photos, strict=True):
        if photo.is_grey:
            log.warning("%s has no colours: the face will be grey in a call; a colour photo is needed", path)
    pictures = [photo.rgb_HW3 for photo in photos]
    if config.clip is not None:
        agreement = _seen_in(config.clip, config.challenge, pictures, agreement, now)
    called = [str(path) for path in config.images]
    identity = enroll(pictures, config.name, agreement, [photo.sha256 for photo in photos], called=called)
    record("identity enrolled", **facts_of(identity.manifest))
    path = store.save(identity)
    click.echo(f"enrolled {identity.name} from {len(photos)} photo{'s' if len(photos) > 1 else ''}: {path}")
    click.echo(f"  {identity.manifest.consent}")


def agreement_of(settings: AgreementSettings, now: datetime) -> Agreement:
    """What was said on the command line. Raises ConsentMissing for what is missing or cannot be."""
    if settings.how == "clip":
        raise ConsentMissing("consent by clip is written down when there is one: --clip FILE --challenge CODE")
    return agree(
        who=settings.who,
        purpose=settings.purpose,
        age=settings.age or "",
        now=now,
        how=settings.how,
        agreed=settings.agreed,
        expires=settings.expires,
        guardian=settings.guardian,
    )


def facts_of(manifest: Manifest) -> dict[str, str | bool | None]:
    """What the audit log keeps of an identity: no picture, and of the consent its hash and its end."""
    agreement = manifest.agreement
    return {
        "identity": manifest.name,
        "origin": manifest.origin_sha256,
        "consent_sha256": manifest.consent_sha256,
        "until": agreement.expires if agreement else None,
        "how": agreement.how if agreement else None,
        "age": agreement.age if agreement else None,
    }


def _seen_in(clip: Path, code: str | None, photos: Sequence[Rgb], agreement: Agreement, now: datetime) -> Agreement:
    """The agreement, with the clip that shows it. Raises UnsuitablePhoto where it does not."""
    if code is None:
        raise ConsentMissing(
            "--clip needs --challenge CODE: what was to be said and done; `vividstream consent phrase`"
        )
    challenges = Challenges()
    challenge = challenges.find(code, now)
    try:
        with closing(MediaReader(clip)) as reader:
            watched = watch_clip((item.rgb_HW3, item.captured_s) for item in reader if isinstance(item, Frame))
            if not reader.sounds:
                raise UnsuitablePhoto(f"{clip}: has no sound, and a phrase was to be read")
        check_clip(watched, challenge, looks_of(photos))
        sha256 = hashlib.sha256(clip.read_bytes()).hexdigest()
    except MediaError as error:
        raise UnsuitablePhoto(str(error)) from error
    except OSError as error:
        raise UnsuitablePhoto(f"{clip}: {error.strerror or error}") from error
    challenges.use_up(code)
    return agreement.model_copy(update={"how": "clip", "clip_sha256": sha256, "phrase": challenge.phrase})
