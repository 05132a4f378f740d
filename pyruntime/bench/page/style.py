"""The page's style sheet: light and dark, phone and desktop, paper."""

from pyruntime.bench.page.plots import COLOURS

__all__ = ["STYLE"]

_DARK = ("#6cb6f5", "#f0955a", "#58c9a0", "#d08be0", "#d3bf4a", "#f27aa5")


def _lines(colours: tuple[str, ...]) -> str:
    return " ".join(f"--line-{i}: {colour};" for i, colour in enumerate(colours))


STYLE = (
    f"""
:root {{
  color-scheme: light dark;
  --ink: #1c2024; --muted: #5b6169; --grid: #d9dce0; --ground: #ffffff; --raised: #f5f6f7;
  {_lines(COLOURS)}
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --ink: #e8eaed; --muted: #a4abb3; --grid: #3a4047; --ground: #16191c; --raised: #1f2327;
    {_lines(_DARK)}
  }}
}}
@media print {{
  :root {{
    --ink: #1c2024; --muted: #5b6169; --grid: #d9dce0; --ground: #ffffff; --raised: #f5f6f7;
    {_lines(COLOURS)}
  }}
}}
"""
    + """
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem;
  background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--grid); }
h3 { font-size: 1.05rem; margin: 2rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 44rem; }
.muted, figcaption { color: var(--muted); }
figure { margin: 0; break-inside: avoid; }
figcaption { font-size: .9rem; max-width: 44rem; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit; }
.narrow { display: none; max-width: 30rem; }
@media (max-width: 40rem) { .wide { display: none; } .narrow { display: block; } }
@media print { .wide { display: block; } .narrow { display: none; } }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
a { color: inherit; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
.scroll:focus-visible { outline: 2px solid var(--line-0); }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding-bottom: .4rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--grid); vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; }
thead th { font-weight: 600; border-bottom: 2px solid var(--muted); vertical-align: bottom;
  white-space: normal; }
tbody th { font-weight: 600; text-align: left; }
.text { text-align: left; }
.facts .text { white-space: normal; min-width: 12rem; }
tbody th { position: sticky; left: 0; background: var(--ground); }
.facts th { white-space: normal; min-width: 6rem; }
.interval { color: var(--muted); font-size: .85em; }
.notes { border-left: 4px solid var(--line-1); padding: .5rem .5rem .5rem 1rem;
  background: var(--raised); margin: 1rem 0; overflow-wrap: anywhere; }
.notes ul { margin: .25rem 0; padding-left: 1.2rem; }
code { font-size: .9em; overflow-wrap: anywhere; }
"""
)
