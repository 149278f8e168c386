"""How the page looks: one sheet, light and dark, from 320 pixels on."""

from __future__ import annotations

from collections.abc import Mapping

from tfxfer.markup import Markup, tag
from tfxfer.plots.palette import DARK, LIGHT, LINES

# Whatever a run holds, a browser loads nothing for this page and runs no script in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def _line(look: str) -> str:
    colour, dashes = LINES[look]
    dashed = f";stroke-dasharray:{' '.join(map(str, dashes))}" if dashes else ""
    return f".line.{look}{{stroke:var(--{colour}){dashed}}}\n.dot.{look}{{fill:var(--{colour})}}\n"


_COLOURS = f"""
:root{{color-scheme:light dark;{_variables(LIGHT)}
--shadow:0 1px 2px rgba(20,25,35,.05),0 4px 16px rgba(20,25,35,.04)}}
@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}--shadow:none}}}}
"""
_REST = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%;scroll-behavior:smooth}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main,header,footer{max-width:1120px;margin:0 auto;padding:0 clamp(14px,4vw,32px)}
h1,h2,h3{line-height:1.2;margin:0;text-wrap:balance;overflow-wrap:anywhere}
h1{font-size:clamp(1.7rem,5vw,2.5rem);letter-spacing:-.02em}
h2{font-size:1.3rem;letter-spacing:-.01em;margin-bottom:.35rem}
h3{font-size:1rem;margin:1.4rem 0 .5rem}
p{margin:.4rem 0;max-width:72ch}
a{color:var(--blue)}
a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--blue);outline-offset:2px}
.soft,figcaption,.note{color:var(--soft)}
.small{font-size:.86rem}
code,pre{font:.86em/1.5 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.name{unicode-bidi:isolate;overflow-wrap:anywhere}
td .name,th .name{display:inline-block;max-width:min(18rem,42vw);max-height:4.7em;overflow:hidden;
overflow-wrap:break-word;vertical-align:top}
.card .name{display:inline-block;max-width:100%;max-height:4.7em;overflow:hidden;vertical-align:top}
.skip{position:absolute;left:-999px}
.skip:focus{left:14px;top:8px;background:var(--card);padding:.4rem .8rem;border-radius:8px}
header{padding-top:clamp(24px,6vw,56px)}
.kicker{color:var(--soft);font-size:.8rem;font-weight:600;letter-spacing:.09em;text-transform:uppercase;
margin:0 0 .3rem}
.lead{font-size:1.08rem;color:var(--soft);margin-top:.6rem;overflow-wrap:anywhere}
.lead b{color:var(--ink);font-weight:600}
.banner{border-left:4px solid var(--orange);background:var(--shade);border-radius:0 10px 10px 0;padding:.6rem .9rem;
margin:1rem 0}
.banner ul{margin:.2rem 0;padding-left:1.1rem}
.figures{display:flex;flex-wrap:wrap;gap:12px;margin:1.6rem 0 1.1rem}
.figure,section{background:var(--card);border:1px solid var(--line);border-radius:14px;box-shadow:var(--shadow)}
.figure{flex:1 1 138px;padding:.95rem 1.1rem;display:flex;flex-direction:column;min-width:0}
.figure .label{font-size:.84rem;color:var(--soft);font-weight:600}
.figure .value{font-size:1.55rem;white-space:nowrap;font-weight:650;letter-spacing:-.02em;line-height:1.25;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.figure .detail{font-size:.84rem;color:var(--soft);overflow-wrap:anywhere}
.figure.first{flex:2 1 280px;border-color:var(--blue);border-width:2px}
.figure.first .value{font-size:2.5rem;color:var(--blue)}
.interval{max-width:22rem;height:8px;border-radius:4px;background:var(--wash);position:relative;margin:.45rem 0 .3rem}
.interval i{position:absolute;top:0;bottom:0;border-radius:4px;background:var(--blue);opacity:.4}
.interval b{position:absolute;top:-3px;bottom:-3px;width:3px;margin-left:-1.5px;border-radius:2px;
background:var(--blue)}
nav ul{display:flex;flex-wrap:wrap;gap:6px;list-style:none;padding:0;margin:0 0 1.4rem}
nav a{display:inline-block;padding:.22rem .7rem;border:1px solid var(--line);border-radius:99px;
background:var(--card);
color:var(--ink);text-decoration:none;font-size:.86rem}
nav a:hover{border-color:var(--blue);color:var(--blue)}
section{padding:clamp(16px,3.5vw,28px);margin:0 0 18px;min-width:0;scroll-margin-top:12px}
figure{margin:0;min-width:0}
figcaption{font-size:.86rem;max-width:72ch}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,290px),1fr));gap:22px 28px;
margin-top:.8rem}
.chart{display:block;width:100%;height:auto;overflow:visible}
.chart text{font-size:11px;fill:var(--soft);font-family:inherit}
.chart .mark{fill:var(--ink);font-weight:600}
.chart .grid{stroke:var(--grid);stroke-width:1}
.chart .axis{stroke:var(--soft);stroke-width:1}
.chart .best{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:2 3}
.chart .apart{fill:var(--shade)}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.reliable{fill:var(--blue);opacity:.75}.sure{fill:var(--orange);stroke:var(--card)}.many{fill:var(--soft)}
.chart-key .best{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:2 3}
.band{fill:var(--blue);opacity:.16}.learning{max-width:560px}
.charts h3{margin:0}
.keys{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:.86rem;color:var(--soft);margin:.2rem 0 .4rem}
.key svg{width:30px;height:10px;margin-right:6px;vertical-align:middle}
@media (min-width:760px){.few .chart text{font-size:8.6px}}
.scroll{overflow-x:auto;max-width:100%;margin:.7rem 0;-webkit-overflow-scrolling:touch}
.tall{max-height:30rem;overflow-y:auto;border:1px solid var(--line);border-radius:10px}
table{border-collapse:separate;border-spacing:0;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.32rem .7rem;vertical-align:top;border-bottom:1px solid var(--line)}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-weight:600;border-bottom:2px solid var(--line);vertical-align:bottom;
background:var(--card)}
.tall thead th{position:sticky;top:0;z-index:2}
tbody th{font-weight:500}
.number{text-align:right;white-space:nowrap}
.wide{width:100%}
.bar{min-width:7.2rem;background:linear-gradient(var(--blue),var(--blue)) no-repeat left .7rem bottom 4px/
calc((100% - 1.4rem)*var(--v)) 3px}
.beside{display:flex;flex-wrap:wrap;gap:8px 56px;align-items:flex-start}
.beside>*{min-width:0;max-width:100%}
.beside:has(.map)>:first-child{flex:1 1 420px}
.beside h3{margin-top:.9rem}
.matrix{border-spacing:2px;font-size:.84rem}
.matrix th,.matrix td{border:0;padding:.2rem .35rem}
.matrix thead th{border:0;color:var(--ink);font-weight:500;text-align:center;padding-bottom:.4rem}
.matrix thead th .name{writing-mode:vertical-rl;transform:rotate(180deg);max-height:9.5rem;text-align:left;
display:inline-block;
overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.matrix tbody th{position:sticky;left:0;background:var(--card);text-align:right;max-width:min(9.5rem,36vw);
overflow:hidden;
text-overflow:ellipsis;white-space:nowrap;z-index:1;vertical-align:middle}
.matrix tbody .name{display:inline;max-width:none}
.matrix td{min-width:2.3rem;height:2.3rem;text-align:center;vertical-align:middle;border-radius:5px;--c:var(--orange);
background:color-mix(in srgb,var(--c) calc(var(--v)*100%),var(--wash))}
.matrix td.right{--c:var(--blue)}
.matrix td.deep,.matrix td.half{font-weight:600}
.matrix td.deep{color:var(--on)}
@media (prefers-color-scheme:dark){.matrix td.half{color:var(--on)}}
.matrix td.zero{color:transparent}
.matrix td.right.zero{color:var(--soft)}
.matrix.short thead th .name{writing-mode:initial;transform:none}
@media (max-width:520px){.matrix{font-size:.76rem}.matrix td{min-width:1.5rem;height:1.8rem;padding:.1rem}}
.map{display:block;width:100%;max-width:620px;height:auto;background:var(--wash);border-radius:8px}
.map .right{fill:var(--blue)}.map .wrong{fill:var(--orange)}
.ramp{display:flex;flex-wrap:wrap;gap:4px 20px;font-size:.84rem;color:var(--soft);margin:.5rem 0}
.ramp i{display:inline-block;width:64px;height:10px;border-radius:3px;margin-right:8px;vertical-align:middle;
background:linear-gradient(90deg,var(--wash),var(--c))}
.ramp .right{--c:var(--blue)}.ramp .wrong{--c:var(--orange)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(46%,150px),1fr));gap:14px;margin-top:.8rem}
.card{background:var(--wash);border-radius:10px;overflow:hidden;min-width:0;display:flex;flex-direction:column}
.card img,.missing{width:100%;aspect-ratio:1;object-fit:contain;background:var(--grid);display:block}
.card img.tiny{image-rendering:pixelated}
.missing{display:grid;place-items:center;text-align:center;color:var(--soft);font-size:.84rem;padding:.6rem;
border-bottom:1px dashed var(--line)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:2px}
.card .said{padding:.5rem .65rem .6rem;font-size:.86rem}
.card p{margin:0}
.card b{font-weight:650}.card .taken{color:var(--orange)}
.card .path{color:var(--soft);font-size:.76rem;margin-top:.25rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:22px;margin-top:.8rem}
.tiles img{width:100%;max-width:560px;image-rendering:pixelated;display:block;border-radius:6px;margin-bottom:.4rem}
.state{white-space:nowrap;font-weight:600}
.state::before{content:"";display:inline-block;width:.62em;height:.62em;margin-right:.45em;background:var(--c)}
.restored{--c:var(--blue)}.initialised{--c:var(--orange)}.missing-state,.mismatched{--c:var(--violet)}
.restored::before{border-radius:50%}
.initialised::before{transform:rotate(45deg) scale(.9)}
.edge{box-shadow:inset 4px 0 var(--c)}
.frozen,.trained{white-space:nowrap}
.frozen{color:var(--soft)}.trained{color:var(--green);font-weight:600}
.split{display:flex;height:26px;border-radius:7px;overflow:hidden;margin:.7rem 0 .4rem;background:var(--wash)}
.split i{display:block;min-width:2px;background:var(--c)}
.split .trained-part{--c:var(--green)}.split .frozen-part{--c:var(--soft);opacity:.55}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,250px),1fr));gap:0 28px;margin:.6rem 0}
.grid div{display:flex;gap:.8rem;justify-content:space-between;border-bottom:1px solid var(--line);padding:.28rem 0;
font-size:.88rem;min-width:0}
.grid dt{color:var(--soft);flex:none;max-width:55%;overflow-wrap:anywhere}
.grid dd{margin:0;text-align:right;min-width:0;overflow-wrap:anywhere}
pre{background:var(--wash);border-radius:10px;padding:.8rem 1rem;overflow-x:auto;margin:.6rem 0}
details{margin:.8rem 0}
summary{cursor:pointer;color:var(--blue);font-size:.9rem}
footer{color:var(--soft);font-size:.84rem;padding-bottom:40px}
@media print{body{background:#fff}section,.figure{box-shadow:none;break-inside:avoid}nav{display:none}
.tall{max-height:none}}
"""

STYLE = _COLOURS + _REST + "".join(map(_line, LINES))


def head(title: str) -> Markup:
    """Return the head of a page."""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
