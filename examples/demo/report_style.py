# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The frame of the report: one page with its style inside, readable on a phone and on a wide screen."""

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light; --ink: #1d2630; --soft: #5d6874; --line: #dde3e8; --tint: #f5f8fa;
  --right: #14803f; --wrong: #c62f2f; --blue: #1f5fbf; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px 20px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 16px 0 8px; }
h2 { font-size: 1.35rem; margin: 52px 0 6px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 26px 0 2px; }
h4 { font-size: .88rem; margin: 12px 0 4px; }
p { margin: 4px 0 10px; max-width: 78ch; }
a { color: var(--blue); }
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
.panels { grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); margin: 14px 0 26px; gap: 8px 36px; }
.panel h3 { margin: 10px 0 4px; }
.bars { display: grid; grid-template-columns: max-content 1fr; gap: 4px 10px; margin: 0; align-items: center;
  font-size: .86rem; }
.bars dt { margin: 0; } .bars dd { margin: 0; display: flex; align-items: center; gap: 8px; }
.bars .track { position: relative; flex: 1; height: 14px; background: #eef2f5; border-radius: 3px; }
.bars .track i { position: absolute; inset: 0 auto 0 0; border-radius: 3px; }
.bars .track s { position: absolute; top: -2px; bottom: -2px; border-left: 2px dashed #1d2630; }
.bars span { min-width: 2.6em; text-align: right; font-variant-numeric: tabular-nums; }
.times .bars span { min-width: 6em; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--line); font-weight: 400; }
th:first-child { text-align: left; }
thead th { font-weight: 600; vertical-align: bottom; border-bottom: 2px solid var(--ink); }
tr.group th { padding-top: 18px; color: var(--soft); }
tr.group span { position: sticky; left: 10px; }
tbody th:first-child { position: sticky; left: 0; background: #fff; }
tr.set th { padding-left: 28px; } tr.set { color: #37424d; }
tr.mean th, tr.total th { font-weight: 600; }
tr.total > * { border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
td.unime, th.unime { background: #eef4fc; }
.columns { grid-template-columns: repeat(3, minmax(0, 1fr)); align-items: start; gap: 28px; margin-top: 14px; }
.column h3 { border-top: 4px solid; padding-top: 8px; margin-top: 8px; }
.column > p { font-size: .9rem; }
.aligned { row-gap: 0; } /* charts of the columns stand beside each other: heading, text, facts, three charts */
.aligned .column { display: grid; grid-template-rows: subgrid; grid-row: span 6; align-items: start; }
figure { margin: 14px 0; } figcaption { font-weight: 600; font-size: .9rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: var(--soft); } svg.heat text { font-size: 8.5px; }
svg .grid { stroke: #e6ebef; fill: none; } svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .spot { fill: transparent; } svg .spot:hover { fill: rgba(29, 38, 48, .35); } svg rect:hover { opacity: .55; }
.legend { list-style: none; margin: 2px 0 0; padding: 0; font-size: .82rem; }
.legend i { display: inline-block; width: 20px; border-top: 3px solid; vertical-align: middle; margin-right: 6px; }
.legend i.dashes { border-top-style: dashed; } .legend b { font-variant-numeric: tabular-nums; white-space: nowrap; }
.scale { display: flex; gap: 8px; align-items: center; font-size: .8rem; margin: 6px 0; color: var(--soft); }
.scale i { flex: 1; height: 9px; border-radius: 3px; }
.map p { font-size: .9rem; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--blue); }
.sentences { columns: 2 320px; font-size: .9rem; }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr)); margin-top: 10px; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.query { display: flex; gap: 14px; align-items: center; } .query p { margin: 0; font-size: .93rem; }
.query img { width: 104px; height: 104px; flex: none; }
.card img { object-fit: contain; border-radius: 4px; background: #f1f4f6; }
.hits { list-style: none; margin: 0; padding: 0; display: grid; gap: 6px; }
.hits.pictures { grid-template-columns: repeat(5, minmax(0, 1fr)); }
.hits li { border: 2px solid var(--line); border-radius: 6px; padding: 3px; }
.hits li.right { border-color: var(--right); border-width: 3px; background: #eefaf2; }
.hits li.wrong { border-color: var(--wrong); border-width: 3px; background: #fdf1f1; }
.hits.pictures img { width: 100%; aspect-ratio: 1; display: block; }
.hits.pictures small { display: block; text-align: center; font-size: .74rem; white-space: nowrap; }
.hits.texts { gap: 3px; } .hits.texts li { display: flex; justify-content: space-between; gap: 10px;
  padding: 1px 8px; font-size: .88rem; }
.hits small { font-variant-numeric: tabular-nums; white-space: nowrap; }
li.right small { color: var(--right); font-weight: 600; } li.wrong small { color: var(--wrong); font-weight: 600; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; overflow-x: auto;
  font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .92em; }
@media (max-width: 860px) { .columns { grid-template-columns: minmax(0, 1fr); } .map, .column { max-width: 460px; }
  .aligned .column { display: block; } }
@media (max-width: 520px) {
  main { padding: 8px 14px 48px; } h1 { font-size: 1.5rem; } th, td { padding: 5px 6px; }
  .results { font-size: .8rem; } .results th:first-child { min-width: 7.5em; } tr.set th { padding-left: 14px; }
  .card { padding: 10px; } .query img { width: 76px; height: 76px; } .hits { gap: 4px; }
  .hits.pictures small { font-size: .64rem; } tr.group span { display: inline-block; width: 80vw; }
}
"""


def page(title: str, opening: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """The whole document.

    Args:
        title: Title and heading, plain text.
        opening: HTML before the first section.
        sections: Anchor, heading (plain text) and HTML of each section.

    Returns:
        HTML that loads nothing from elsewhere.
    """
    links = "".join(f'<a href="#{escape(anchor)}">{escape(heading)}</a>' for anchor, heading, _ in sections)
    body = "".join(
        f'<section><h2 id="{escape(anchor)}">{escape(heading)}</h2>{content}</section>\n'
        for anchor, heading, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>{opening}<nav>{links}</nav>\n{body}</main></body></html>\n"
    )
