"""Two engines side by side without their names: which picture is plainly better?

    python -m benchmarks.blind_look --one proxy --other tiny           40 pairs, eight a sheet, into out/blind/
    python -m benchmarks.blind_look --marks 1=left 2=right 3=neither   who was it; counts, and forgets nothing

Each row: the driver, and both engines' pictures of the same frame in an order that a lot decides; every engine has
drawn all frames before it. Sides are in out/blind/sides.json: do not read it before the marks are given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
import numpy as np
from PIL import Image, ImageDraw

from benchmarks.corpus import CLIPS, DATA, Enrolled, Footage, enrol_people, people, read_clip
from benchmarks.report import PRIVATE, read_settings
from engines import Session, SettingError, Status, load
from engines.face.track import FaceTracker
from engines.types import Rgb

FOLDER = PRIVATE / "blind"
SIDES = FOLDER / "sides.json"
ROWS, PICTURE_PX, WIDER = 8, 320, 1.6  # of the face's height
LEAST_FRAMES = 12  # that an engine has seen before it is looked at
PEOPLE_COUNT = 20
MARKS = ("left", "right", "neither")


@dataclass(frozen=True, slots=True)
class Question:
    """One row: whose face is worn by whom, and in which frame it is looked at."""

    wearer: Enrolled
    footage: Footage
    frame: int
    turned: bool  # the other engine stands on the left


def questions(count: int, seed: int, clips: Sequence[Footage], wearers: Sequence[Enrolled]) -> Iterator[Question]:
    """By lot, people and clips as evenly as can be."""
    lot = np.random.default_rng(seed)
    people_in_order, clips_in_order = lot.permutation(count), lot.permutation(count)
    for number in range(count):
        footage = clips[clips_in_order[number] % len(clips)]
        frame = int(lot.integers(min(LEAST_FRAMES, len(footage.frames) - 1), len(footage.frames)))
        yield Question(wearers[people_in_order[number] % len(wearers)], footage, frame, bool(lot.integers(2)))


def drawn(session: Session, question: Question) -> tuple[Rgb, Status]:
    session.set_identity(question.wearer.identity)
    state = session.init()
    footage = question.footage
    for rgb, captured_s in zip(footage.frames[: question.frame], footage.captured_s):
        session.step(state, rgb, captured_s)
    last = session.step(state, footage.frames[question.frame], footage.captured_s[question.frame])
    return last.rgb_HW3, last.status


def face_square(rgb_HW3: Rgb) -> tuple[int, int, int, int]:
    """The driver's face with room around it, ears and neck too; the whole picture where no face is found."""
    tracker = FaceTracker(max_faces=1, follow="one")
    faces = tracker.step(tracker.init(), rgb_HW3, 0.0).faces
    tracker.close()
    if not faces:
        return 0, 0, rgb_HW3.shape[1], rgb_HW3.shape[0]
    points = faces[0].points_px[:, :2]
    (x, y), side = points.mean(axis=0), WIDER * float(np.ptp(points, axis=0).max())
    return round(x - side / 2), round(y - side / 2), round(x + side / 2), round(y + side / 2)


def row_of(number: int, question: Question, pictures: Sequence[Rgb]) -> Image.Image:
    before = question.footage.frames[question.frame]
    square = face_square(before)
    shown = [before, *(reversed(pictures) if question.turned else pictures)]
    row = Image.new("RGB", (PICTURE_PX * len(shown), PICTURE_PX))
    for column, picture in enumerate(shown):
        part = Image.fromarray(picture).crop(square).resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC)
        row.paste(part, (column * PICTURE_PX, 0))
    ImageDraw.Draw(row).text((6, 4), str(number), fill="white", stroke_width=2, stroke_fill="black")
    return row


def make_sheets(one: Session, other: Session, count: int, seed: int) -> dict[str, str]:
    """Writes the sheets; returns which engine stands on the left of each row."""
    footages = [read_clip(DATA / path) for path in CLIPS]
    rows: list[Image.Image] = []
    left: dict[str, str] = {}
    for question in questions(4 * count, seed, footages, enrol_people(people(PEOPLE_COUNT))[0]):
        pictures, states = zip(*(drawn(session, question) for session in (one, other)))
        if any(status != Status.DRAWN for status in states):
            continue
        number = len(rows) + 1
        rows.append(row_of(number, question, pictures))
        left[str(number)] = (other if question.turned else one).engine
        click.echo(f"{number}: {question.footage.name}, frame {question.frame}")
        if number == count:
            break
    for first in range(0, len(rows), ROWS):
        sheet = Image.new("RGB", (rows[0].width, PICTURE_PX * len(rows[first : first + ROWS])))
        for place, row in enumerate(rows[first : first + ROWS]):
            sheet.paste(row, (0, place * PICTURE_PX))
        sheet.save(FOLDER / f"sheet-{first // ROWS + 1}.png")
    return left


def counted(marks: Sequence[str]) -> dict[str, int]:
    """How often each engine was plainly better. Raises SettingError for a mark that says nothing."""
    sides = json.loads(SIDES.read_text(encoding="utf-8"))
    counts = dict.fromkeys((*sides["engines"], "neither"), 0)
    for mark in marks:
        number, _, side = mark.partition("=")
        if side not in MARKS or number not in sides["left"]:
            raise SettingError(f'"{mark}" is not NUMBER=left, =right or =neither of a row that there is')
        left = sides["left"][number]
        right = next(name for name in sides["engines"] if name != left)
        counts[{"left": left, "right": right, "neither": "neither"}[side]] += 1
    return counts


@click.command(help=__doc__)
@click.option("--one", default="proxy", help="an engine")
@click.option("--other", default="tiny", help="the other one")
@click.option("--count", type=click.IntRange(1), default=40, help="pairs")
@click.option("--seed", type=int, default=0, help="decides who, where, when and on which side")
@click.option("--marks", is_flag=True, help="the words that follow are marks: 1=left 2=neither ...")
@click.argument("words", nargs=-1)
def main(one: str, other: str, count: int, seed: int, marks: bool, words: tuple[str, ...]) -> None:
    if marks:
        click.echo(json.dumps(counted(words)))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    sessions = [
        load(read_settings(name, ("label=false", "label_off_reason=compared in private"))) for name in (one, other)
    ]
    try:
        left = make_sheets(sessions[0], sessions[1], count, seed)
    finally:
        for session in sessions:
            session.close()
    SIDES.write_text(json.dumps({"engines": [one, other], "seed": seed, "left": left}), encoding="utf-8")
    click.echo(f"{len(left)} pairs in {FOLDER}")


if __name__ == "__main__":
    main()
