# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The frame of a report: one page with its style inside, for a phone and a wide screen, in light and dark."""

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1d2630; --soft: #5d6874; --line: #dde3e8; --tint: #f5f8fa;
  --track: #e9eef2; --right: #14803f; --right-tint: #eefaf2; --wrong: #c62f2f; --wrong-tint: #fdf1f1; --blue: #1f5fbf;
  --run0: #1f5fbf; --run1: #c9661a; --run2: #14846f; --run3: #a33d8b; --run4: #7a6a00; --run5: #5d6874; }
@media (prefers-color-scheme: dark) { :root { --page: #12181e; --ink: #e6ebf0; --soft: #9daab6; --line: #323d47;
  --tint: #1a232b; --track: #2a343d; --right: #53c281; --right-tint: #14291d; --wrong: #ff8080; --wrong-tint: #341b1d;
  --blue: #7db2ff; --run0: #6aa5f5; --run1: #eb9650; --run2: #45bfa5; --run3: #da83c4; --run4: #cdbb4a; --run5: #9daab6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px 20px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 16px 0 8px; }
h2 { font-size: 1.35rem; margin: 52px 0 6px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 26px 0 2px; }
h4 { font-size: .88rem; margin: 12px 0 4px; }
p { margin: 4px 0 10px; max-width: 78ch; }
a { color: var(--blue); }
:focus-visible { outline: 3px solid var(--blue); outline-offset: 2px; }
nav { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 14px 0 4px; font-size: .92rem; }
.lead { font-size: 1.06rem; }
.note, small { color: var(--soft); }
.note { font-size: .86rem; }
small { font-size: .84rem; font-weight: 400; }
.tiles, .panels, .columns, .cards { display: grid; gap: 18px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); margin: 20px 0; }
.tile { background: var(--tint); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.tile h3 { margin: 0; font-size: .92rem; color: var(--soft); font-weight: 600; }
.tile p { margin: 0; font-size: .9rem; }
.tile .big { font-size: 2rem; font-weight: 700; line-height: 1.35; white-space: nowrap; }
.tile .big small { font-size: .95rem; font-weight: 600; }
.up, h4 .right { color: var(--right); } .down, h4 .wrong { color: var(--wrong); }
.panels { grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); margin: 14px 0 26px; gap: 8px 36px; }
.panel { min-width: 0; } .panel h3 { margin: 10px 0 4px; }
.bars { display: grid; grid-template-columns: minmax(3em, max-content) minmax(70px, 1fr) max-content; gap: 4px 10px;
  margin: 0; align-items: center; font-size: .86rem; }
.bars dt { margin: 0; overflow-wrap: anywhere; } .bars dd { display: contents; }
.bars .track { position: relative; height: 14px; background: var(--track); border-radius: 3px; }
.bars .track i { position: absolute; inset: 0 auto 0 0; border-radius: 3px; }
.bars .track s { position: absolute; top: -2px; bottom: -2px; border-left: 2px dashed var(--ink); }
.bars .track u { position: absolute; top: 2px; bottom: 2px; border: solid var(--ink); border-width: 0 2px; }
.bars .track u::before { content: ""; position: absolute; left: 0; right: 0; top: 4px; border-top: 2px solid var(--ink); }
.bars span { min-width: 2.6em; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--line); font-weight: 400; }
th:first-child { text-align: left; }
thead th { font-weight: 600; vertical-align: bottom; border-bottom: 2px solid var(--ink); }
tbody th:first-child { position: sticky; left: 0; background: var(--page); }
figure { margin: 14px 0; } figcaption { font-weight: 600; font-size: .9rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: var(--soft); }
svg .grid { stroke: var(--line); fill: none; } svg .axis { stroke: var(--soft); fill: none; }
svg .area { stroke-width: 2; fill-opacity: .22; stroke-linejoin: round; }
.legend { list-style: none; margin: 2px 0 0; padding: 0; font-size: .82rem; }
.legend i { display: inline-block; width: 20px; border-top: 3px solid; vertical-align: middle; margin-right: 6px; }
.legend i.dashes { border-top-style: dashed; } .legend b { font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--blue); }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr)); margin-top: 10px; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; min-width: 0; }
.card img { object-fit: contain; border-radius: 4px; background: var(--track); }
@media (max-width: 699px) {
  .tiles, .panels, .cards { grid-template-columns: minmax(0, 1fr); }
  main { padding: 8px 14px 48px; } h1 { font-size: 1.5rem; } th, td { padding: 5px 6px; } .card { padding: 10px; }
}
"""


def page(title: str, opening: str, sections: Sequence[tuple[str, str, str]], style: str = "") -> str:
    """The whole document, which loads nothing from elsewhere.

    Args:
        title: Title and heading, plain text.
        opening: HTML before the first section.
        sections: Anchor, heading (plain text) and HTML of each section.
        style: CSS behind that of every report.
    """
    links = "".join(f'<a href="#{escape(anchor)}">{escape(heading)}</a>' for anchor, heading, _ in sections)
    body = "".join(
        f'<section><h2 id="{escape(anchor)}">{escape(heading)}</h2>{content}</section>\n'
        for anchor, heading, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>{opening}"
        f'<nav aria-label="Sections">{links}</nav>\n{body}</main></body></html>\n'
    )


def scrolling(label: str, content: str) -> str:
    """Something wide, such as a table, that scrolls by itself, with the keyboard as well."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>'
