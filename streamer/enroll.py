"""`vividstream enroll`: photo files in, one identity file out."""

from __future__ import annotations

import click

from engines import ConsentMissing, IdentityError, IdentityStore, enroll
from streamer.config import EnrollConfig
from streamer.photo import read_photo


def run_enroll(config: EnrollConfig) -> None:
    """Writes the identity file, whole or not at all, and says where the identity can be used.

    Raises ConsentMissing, UnsuitablePhoto, or IdentityError for a name that is taken or impossible.
    """
    if not config.consent.strip():
        raise ConsentMissing('nobody is enrolled without consent: --consent "who agreed, when, for what"')
    store = IdentityStore(config.identities_dir)
    if config.name in store.built_in():
        raise IdentityError(f'identity "{config.name}" is built in and cannot be changed; take another name')
    if config.name in store.names() and not config.overwrite:
        raise IdentityError(f'identity "{config.name}" exists already; --overwrite replaces it')
    photos = [read_photo(path) for path in config.images]
    identity = enroll(
        [photo.rgb_HW3 for photo in photos], config.name, config.consent, [photo.sha256 for photo in photos]
    )
    path = store.save(identity)
    click.echo(f"enrolled {identity.name} from {len(photos)} photo{'s' if len(photos) > 1 else ''}: {path}")
