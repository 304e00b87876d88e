"""Renders the four built-in personas: people who do not exist.

    python -m examples.render_personas --data ../shared/data --out docs/personas

For each: a portrait (NAME.png), in NAME/ the views it is enrolled from, and the identity that the project ships
(engines/personas/NAME.safetensors). Takes about a minute per persona.
"""

from __future__ import annotations

import argparse
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.enrolment import enroll
from engines.identity_store import write_identity
from examples.persona_assets import Assets, Persona
from examples.persona_head import Textures, build_head, make_textures
from examples.persona_picture import View, photograph
from examples.soft_render import Camera, Light, Lighting

VIEW_PX = 768
PORTRAIT_PX = 512

EVEN = Lighting(
    lights=(
        Light((-0.35, 0.35, 1.0), 32, (0.70, 0.68, 0.66), 10),
        Light((0.45, 0.20, 1.0), 32, (0.58, 0.57, 0.56), 10),
    ),
    sky=(0.56, 0.56, 0.57),
    ground=(0.40, 0.39, 0.38),
)
STUDIO = Lighting(
    lights=(
        Light((-0.62, 0.52, 0.85), 19, (1.42, 1.34, 1.24), 14),
        Light((0.85, 0.05, 0.75), 32, (0.30, 0.31, 0.34), 8),
        Light((0.85, 0.45, -0.55), 14, (0.85, 0.88, 0.98), 8),
    ),
    sky=(0.26, 0.27, 0.29),
    ground=(0.17, 0.15, 0.14),
)
PORTRAIT_POSE = (-10.0, 1.0)
CONSENT = "Nobody to ask: this person does not exist and was rendered by examples/render_personas.py"
CREATED = datetime(2026, 11, 23, tzinfo=UTC)
VIEWS = {"front": (0, 0), "left": (34, 0), "right": (-34, 0), "up": (6, -14)}

PERSONAS = (
    Persona(
        name="amara", shape={0: 1.0, 1: -0.8, 2: -1.7}, seed=11, shape_noise=0.45,
        skins={"young_darkskinned_male": 0.3, "young_lightskinned_female2": 0.35, "young_lightskinned_female3": 0.35},
        skin_lab=(30.0, 13.0, 16.5), skin_contrast=0.7,
        brow="eyebrow002", brow_colour=(0.012, 0.009, 0.008), brow_strength=1.0,
        hair="afro01", hair_colour=(0.0015, 0.0012, 0.001), hair_light=(0.022, 0.015, 0.012), hair_gloss=0.15,
        eye="brownlight", eye_tint=(0.35, 0.30, 0.28), cloth=(0.55, 0.22, 0.05),
        lip_tint=(0.36, 0.13, 0.13), lip_strength=0.45, lashes=1.0, liner=0.35, wrinkles=0.5,
    ),
    Persona(
        name="henrik", shape={0: -0.9, 1: -0.5, 2: 1.2}, seed=23, shape_noise=0.5,
        skins={"middleage_lightskinned_male": 0.6, "middleage_lightskinned_male2": 0.4},
        skin_lab=(62.0, 14.0, 17.0), skin_contrast=1.1,
        brow="eyebrow001", brow_colour=(0.16, 0.145, 0.13), brow_strength=0.8,
        hair="short04", hair_colour=(0.07, 0.068, 0.066), hair_light=(0.50, 0.49, 0.47), scalp_tint=0.45,
        eye="grey", eye_tint=(0.50, 0.58, 0.68), cloth=(0.03, 0.05, 0.09),
        lashes=0.5, wrinkles=1.8, freckles=0.6, creases=1.0, stubble=0.55, stubble_colour=(0.24, 0.22, 0.20),
        grow={"eyeBlink": 0.10, "mouthFrown": 0.04, "browDown": 0.12},
    ),
    Persona(
        name="lucia", shape={0: 1.3, 1: 0.1, 2: -0.9}, seed=37, shape_noise=0.4,
        skins={"young_lightskinned_female3": 0.6, "young_lightskinned_female2": 0.4},
        skin_lab=(65.0, 13.0, 20.0), skin_contrast=0.8,
        brow="eyebrow003", brow_colour=(0.018, 0.013, 0.011), brow_strength=1.0,
        hair="long01", hair_colour=(0.004, 0.0035, 0.003), hair_light=(0.05, 0.04, 0.034),
        eye="brownlight", eye_tint=(0.28, 0.24, 0.24), cloth=(0.42, 0.42, 0.44),
        lip_tint=(0.60, 0.17, 0.17), lip_strength=0.35, lashes=0.9, liner=0.3, wrinkles=0.3,
        grow={"eyeSquint": 0.25},
    ),
    Persona(
        name="rohan", shape={0: -0.4, 1: -0.9, 2: 0.3}, seed=53, shape_noise=0.5,
        skins={"young_lightskinned_male": 0.5, "young_darkskinned_male": 0.2, "young_lightskinned_male3": 0.3},
        skin_lab=(47.0, 14.5, 21.0), skin_contrast=0.85,
        brow="eyebrow009", brow_colour=(0.012, 0.009, 0.008), brow_strength=1.0,
        hair="short01", hair_colour=(0.004, 0.0035, 0.003), hair_light=(0.05, 0.038, 0.03),
        eye="brownlight", eye_tint=(0.5, 0.42, 0.38), cloth=(0.06, 0.12, 0.10),
        lashes=0.8, wrinkles=0.8, stubble=0.9,
    ),
)  # fmt: skip


def take(assets: Assets, persona: Persona, textures: Textures, pose: tuple[float, float], portrait: bool,
         fast: bool) -> NDArray[np.uint8]:  # fmt: skip
    yaw, pitch = pose
    gaze = (-0.85 * yaw, pitch) if portrait else (float(np.clip(-0.5 * yaw, -14, 14)), 0.5 * pitch)
    smile = {"mouthSmile": 0.22, "cheekSquint": 0.2, "mouthPress": 0.05, "eyeSquint": 0.15}
    lids = {"eyeLookDown": max(0.0, -gaze[1] / 25), "eyeLookUp": max(0.0, gaze[1] / 25)}
    head = build_head(assets, persona, textures, (smile if portrait else {}) | lids, gaze)
    view = View(
        yaw_deg=yaw, pitch_deg=pitch, roll_deg=-2.5 if portrait else 0.0,
        camera=Camera(90.0, 36.0 if portrait else 32.0, 2.2, PORTRAIT_PX if portrait else VIEW_PX),
        lighting=STUDIO if portrait else EVEN,
        backdrop=((0.30, 0.31, 0.33), (0.06, 0.065, 0.075)) if portrait else ((0.34, 0.34, 0.34), (0.26, 0.26, 0.26)),
        supersample=2 if fast else 4 if portrait else 3,
        globe=48 if fast else 128,
    )  # fmt: skip
    return photograph(head, view, persona.cloth, gaze, None if portrait else persona.seed)


def render(assets: Assets, persona: Persona, out: Path) -> None:
    folder = out / persona.name
    folder.mkdir(parents=True, exist_ok=True)
    textures = make_textures(assets, persona)
    portrait = Image.fromarray(take(assets, persona, textures, PORTRAIT_POSE, True, False))
    portrait.save(out / f"{persona.name}.png", optimize=True)
    for name, pose in VIEWS.items():
        picture = Image.fromarray(take(assets, persona, textures, pose, False, False))
        picture.save(folder / f"{name}.jpg", quality=93)


def enrol(persona: Persona, out: Path, identities: Path) -> None:
    """Makes the shipped identity from the views as they lie on disk."""
    files = [out / persona.name / f"{name}.jpg" for name in VIEWS]
    images = [np.array(Image.open(file).convert("RGB")) for file in files]
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    identity = enroll(images, persona.name, CONSENT, hashes, synthetic=True, created=CREATED)
    write_identity(identities / f"{persona.name}.safetensors", identity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("docs/personas"))
    parser.add_argument("--identities", type=Path, default=Path("engines/personas"))
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--draft", action="store_true", help="quick portraits alone")
    parser.add_argument("--enrol-only", action="store_true", help="make the identities from views that are there")
    arguments = parser.parse_args()
    assets = None if arguments.enrol_only else Assets(arguments.data)
    wanted = arguments.only.split(",") if arguments.only else [persona.name for persona in PERSONAS]
    for persona in PERSONAS:
        if persona.name not in wanted:
            continue
        if assets is not None and arguments.draft:
            portrait = take(assets, persona, make_textures(assets, persona), PORTRAIT_POSE, True, True)
            Image.fromarray(portrait).save(arguments.out / f"{persona.name}.png")
            continue
        if assets is not None:
            render(assets, persona, arguments.out)
        enrol(persona, arguments.out, arguments.identities)
        print(f"{persona.name}: done", flush=True)


if __name__ == "__main__":
    main()
