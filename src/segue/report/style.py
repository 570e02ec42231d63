"""The report's one style sheet: light, dark and paper from the same variables; no font, image or script is fetched.

The run colours keep apart in the common kinds of colour blindness (blue, vermilion, green, purple first) and come
with dash patterns of their own, so that a black-and-white print can be read too.
"""

from __future__ import annotations

LIGHT = """
  --page: #fbfaf8; --card: #ffffff; --ink: #1d2327; --soft: #5b656d; --line: #dfe1e2; --grid: #eceeee;
  --tint: #f2f1ec; --mark: #0b6aa8; --good: #0a7350; --bad: #b4440b; --idle: #5b656d;
  --c0: #0b6aa8; --c1: #cc5200; --c2: #07855f; --c3: #9c4f96; --c4: #a67c00; --c5: #3c9bc9; --c6: #4b5358;
  --c7: #8a3324;
"""

DARK = """
  --page: #14181b; --card: #1b2024; --ink: #e7eaec; --soft: #a2adb4; --line: #343b41; --grid: #272d32;
  --tint: #20262b; --mark: #62b5ea; --good: #4fcb9e; --bad: #ff9a5c; --idle: #a2adb4;
  --c0: #62b5ea; --c1: #ff9450; --c2: #43c99a; --c3: #dc94d6; --c4: #e3bd4b; --c5: #a5d8f2; --c6: #c3cacf;
  --c7: #e58a78;
"""

LAYOUT = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
header, main, footer { max-width: 1060px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 44px; }
h1 { font-size: 2rem; line-height: 1.15; letter-spacing: -.018em; margin: 0 0 6px; text-wrap: balance; }
h2 { font-size: 1.25rem; letter-spacing: -.01em; margin: 0 0 4px; }
h3 { font-size: 1rem; margin: 26px 0 8px; }
p { margin: 0 0 12px; max-width: 84ch; }
.over { color: var(--soft); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; margin: 0 0 8px; }
.note-text { margin-top: 14px; } header .scroll { margin: 0; padding: 0; } header td { white-space: nowrap; }
.soft, .note-text { color: var(--soft); font-size: .9rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 24px 26px;
  margin: 22px 0; }
footer { color: var(--soft); font-size: .85rem; padding-bottom: 48px; }
code, .code { font: .86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.code { overflow-wrap: anywhere; }
dl.facts { display: flex; flex-wrap: wrap; gap: 8px 34px; margin: 16px 0 4px; }
dl.facts div { min-width: 0; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.status { display: inline-block; border: 1px solid currentColor; border-radius: 99px; padding: 0 10px;
  font-size: .86rem; }
.status-finished { color: var(--good); } .status-failed, .status-interrupted { color: var(--bad); }
.status-running { color: var(--mark); }
.verdict { border-left: 5px solid var(--c); }
.verdict .headline { font-size: 1.28rem; line-height: 1.4; letter-spacing: -.008em; margin: 0 0 6px;
  max-width: 60ch; }
.verdict .detail { color: var(--soft); margin: 0; }
.verdicts { list-style: none; margin: 14px 0 0; padding: 0; }
.verdicts li { border-left: 5px solid var(--c); padding: 2px 0 2px 16px; margin: 0 0 18px; }
.verdicts li:last-child { margin-bottom: 0; }
.verdicts .who { font-weight: 600; } .verdicts p { margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 16px 0 22px; padding: 0; }
.tiles div { background: var(--tint); border-radius: 10px; padding: 12px 14px; }
.tiles dd { font-size: 1.42rem; line-height: 1.25; letter-spacing: -.015em; }
.tiles dd small { display: block; font-size: .78rem; letter-spacing: 0; color: var(--soft); margin-top: 2px; }
.scroll { overflow-x: auto; margin: 0 -26px; padding: 0 26px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; color: var(--soft); font-size: .85rem; padding: 0 0 8px; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; } thead th { color: var(--soft); font-weight: 500; font-size: .82rem; vertical-align: bottom; }
td.n, th.n { text-align: right; white-space: nowrap; } td.n:last-child, th.n:last-child { padding-right: 0; }
td small { display: block; color: var(--soft); white-space: nowrap; font-weight: 400; }
tbody th small { display: block; color: var(--soft); font-weight: 400; }
thead th.n { white-space: normal; } tbody th { min-width: 6.5em; } tr.named th { min-width: 15em; }
th .legend { margin: 0; } th .legend li span { font-size: .92rem; }
tr.total th, tr.total td { border-top: 2px solid var(--line); font-weight: 600; }
tr.set td { font-weight: 600; }
td.value { overflow-wrap: anywhere; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--mark); }
summary:focus-visible { outline: 2px solid var(--mark); outline-offset: 3px; border-radius: 3px; }
figure { margin: 0; } figure.big { margin: 18px 0 8px; }
figcaption { font-weight: 600; font-size: .92rem; margin: 0 0 4px; }
.grid-of-figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 22px 20px;
  margin: 16px 0; }
.halves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(380px, 100%), 1fr)); gap: 20px 24px;
  margin: 16px 0; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 10px 0; padding: 0;
  font-size: .92rem; }
.legend li { display: flex; align-items: center; gap: 8px; } .swatch { width: 34px; height: 12px; flex: none; }
"""

DRAWING = """
.figure { display: block; width: 100%; height: auto; overflow: visible; } .narrow { display: none; }
.figure text { font-size: 12px; fill: var(--soft); } .mid { text-anchor: middle; } .end { text-anchor: end; }
.figure .switch-name { fill: var(--ink); font-weight: 600; } .figure .note { font-size: 11px; font-style: italic; }
.grid { stroke: var(--grid); } .axis { stroke: var(--soft); stroke-width: 1; } .offline { fill: var(--tint); }
.switch { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 4 3; } .identity { stroke: var(--soft);
  stroke-dasharray: 5 4; }
.centre { fill: none; stroke: var(--c); stroke-width: 2.4; stroke-linejoin: round; stroke-linecap: round; }
.seed { fill: none; stroke: var(--c); stroke-width: .9; stroke-opacity: .42; stroke-linejoin: round; }
.band { fill: var(--c); fill-opacity: .15; } .dot { fill: var(--card); stroke: var(--c); stroke-width: 1.4; }
.cloud { fill: var(--c); fill-opacity: .38; }
.small .centre { stroke-width: 1.7; }
.run1.centre { stroke-dasharray: 9 4; } .run2.centre { stroke-dasharray: 2 4.5;
  } .run3.centre { stroke-dasharray: 10 4 2 4; }
.run5.centre { stroke-dasharray: 6 3; } .run6.centre { stroke-dasharray: 3 3;
  } .run7.centre { stroke-dasharray: 12 3 3 3; }
"""

WINDOWS = """
@media (max-width: 640px) {
  header, main, footer { padding-left: 12px; padding-right: 12px; } header { padding-top: 26px; }
  section { padding: 18px 16px; } .scroll { margin: 0 -16px; padding: 0 16px; } h1 { font-size: 1.55rem; }
  .verdict .headline { font-size: 1.12rem; } .tiles { grid-template-columns: 1fr 1fr;
  } .tiles dd { font-size: 1.15rem; }
  .figure.wide { display: none; } .figure.narrow { display: block; }
}
"""

PAPER = """
@page { margin: 14mm; }
@media print {
  body { background: #fff; font-size: 10.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  header, main, footer { max-width: none; padding: 0; }
  section { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: 14px 0; margin: 0; }
  section.verdict { border-left: 5px solid var(--c); padding-left: 14px; }
  figure, tr, .tiles, .verdicts li { break-inside: avoid; } h2, h3, summary { break-after: avoid; }
  .scroll { overflow: visible; margin: 0; padding: 0; }
  details.long { display: none; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  .figure.wide { display: block; } .figure.narrow { display: none; }
  .grid-of-figures { grid-template-columns: repeat(3, 1fr); }
}
"""

COLOURS = "".join(f".run{index} {{ --c: var(--c{index}); }}\n" for index in range(8))

STYLE = (
    f":root {{ color-scheme: light dark; {LIGHT} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}\n"
    f"{COLOURS}{LAYOUT}{DRAWING}{WINDOWS}{PAPER}"
)
