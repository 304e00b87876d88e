"""What a run of `prepare` did, for people: a JSON file and a page with pictures."""

from __future__ import annotations

import html
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from distill.prepare.run import Outcome
from distill.prepare.state import Record
from distill.shards import written_whole

REPORT_JSON, REPORT_PAGE = "report.json", "report.html"
_PAGE = """<!doctype html><meta charset="utf-8"><title>Prepared clips</title>
<style>body{{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em}}img{{max-width:100%}}td,th{{text-align:left;
padding-right:1.5em;vertical-align:top}}.bad{{color:#a00}}</style>
<h1>{clips} clips from {videos} videos</h1>
{summary}{bad}{videos_html}
"""


def write_report(record: Record, outcome: Outcome) -> Path:
    """Writes both files into the output's folder and gives the page. Raises NotWritten."""
    folder, settings = record.settings.output, record.settings
    reports = sorted(record.reports.values(), key=lambda one: one.video)
    left_out: Counter[str] = Counter()
    for report in reports:
        left_out.update(report.left_out)
    facts = {
        "settings": settings.model_dump(mode="json"),
        "clips": outcome.clips,
        "left_out": dict(left_out),
        "refused": outcome.refused,
        "broke_off": outcome.broke_off,
        "remade": outcome.remade,
        "videos": [asdict(report) for report in reports],
    }
    with written_whole(folder / REPORT_JSON) as file:
        file.write(json.dumps(facts, indent=1).encode())
    rows = "".join(f"<tr><td>{html.escape(why)}</td><td>{count}</td></tr>" for why, count in left_out.most_common())
    bad = "".join(f'<li class="bad">{html.escape(line)}</li>' for line in (*outcome.refused, *outcome.broke_off))
    videos = ""
    for report in reports:
        pictures = "".join(f'<img src="{html.escape(name)}" alt="">' for name in report.pictures)
        counts = f"{report.clips} clips, {report.people} people, {report.frames} frames, {report.cuts} cuts"
        if settings.decoupler is not None:
            counts += f", {report.twins} twins"
            counts += "".join(f"; {count} without: {html.escape(why)}" for why, count in report.without_twin.items())
        rights = html.escape(f"consent: {report.consent}; licence: {report.licence}")
        videos += f"<h2>{html.escape(Path(report.video).name)}</h2><p>{counts}<br>{rights}</p>{pictures}"
    page = _PAGE.format(
        clips=outcome.clips,
        videos=sum(report.clips > 0 for report in reports),
        summary=f"<table><tr><th>left out as</th><th>faces in frames</th></tr>{rows}</table>",
        bad=f"<h2>Not or not wholly used</h2><ul>{bad}</ul>" if bad else "",
        videos_html=videos,
    )
    with written_whole(folder / REPORT_PAGE) as file:
        file.write(page.encode())
    return folder / REPORT_PAGE
