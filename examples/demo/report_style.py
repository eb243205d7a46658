# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the demo's report needs beyond the style of every report (`evaluation/templates/results.css`)."""

STYLE = """
.columns { grid-template-columns: repeat(3, minmax(0, 1fr)); align-items: start; gap: 28px; margin-top: 14px; }
.column h3 { border-top: 4px solid; padding-top: 8px; margin-top: 8px; }
.column > p { font-size: .9rem; }
.aligned { row-gap: 0; } /* charts of the columns stand beside each other: heading, text, facts, three charts */
.aligned .column { display: grid; grid-template-rows: subgrid; grid-row: span 6; align-items: start; }
svg.heat text { font-size: 8.5px; } svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .spot { fill: transparent; } svg .spot:hover { fill: var(--soft); } svg rect:hover { opacity: .55; }
.scale { display: flex; gap: 8px; align-items: center; font-size: .8rem; margin: 6px 0; color: var(--soft); }
.scale i { flex: 1; height: 9px; border-radius: 3px; }
.map p { font-size: .9rem; }
.sentences { columns: 2 320px; font-size: .9rem; }
.query { display: flex; gap: 14px; align-items: center; } .query p { margin: 0; font-size: .93rem; }
.query img { width: 104px; height: 104px; flex: none; }
.hits { list-style: none; margin: 0; padding: 0; display: grid; gap: 6px; }
.hits.pictures { grid-template-columns: repeat(5, minmax(0, 1fr)); }
.hits li { border: 2px solid var(--line); border-radius: 6px; padding: 3px; }
.hits li.right { border-color: var(--right); border-width: 3px; background: var(--right-tint); }
.hits li.wrong { border-color: var(--wrong); border-width: 3px; background: var(--wrong-tint); }
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
  .query img { width: 76px; height: 76px; } .hits { gap: 4px; }
  .hits.pictures small { font-size: .64rem; }
}
"""
