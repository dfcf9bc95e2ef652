// One chart: uPlot, in the page's colours, as wide as its box, with its figures as text for who can't see it.

import { html, useEffect, useRef } from '/vendor/preact.js';
import uPlot from '/vendor/uplot.js';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia('(prefers-color-scheme: dark)');

// For lines that are no versions; dashes carry what colour alone would not.
export const LOOKS = [
  { colour: '--c1', dash: [] }, { colour: '--c2', dash: [6, 3] }, { colour: '--c3', dash: [2, 3] },
  { colour: '--c4', dash: [10, 3, 2, 3] }, { colour: '--c5', dash: [1, 2] },
];
const DASHES = { champion: [], live: [], canary: [7, 3], shadow: [2, 3] };

// A version's colour is the same in every chart and stays; its role is the dash.
export const lookOf = (version, role) => ({ colour: `--c${1 + (version - 1) % 4}`, dash: DASHES[role] ?? [1, 2] });

const two = (n) => String(n).padStart(2, '0');

function tick(s, incr) {
  const d = new Date(s * 1000), clock = `${two(d.getHours())}:${two(d.getMinutes())}`;
  if (incr >= 86400) return `${d.getMonth() + 1}-${two(d.getDate())}`;
  return incr >= 60 ? clock : `${clock}:${two(d.getSeconds())}`;
}

function optionsOf(spec, width) {
  const grid = { stroke: css('--line'), width: 1 };
  const axis = { stroke: css('--dim'), grid, ticks: grid, font: '11px system-ui, sans-serif' };
  return {
    width, height: spec.height ?? 170,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: spec.range } },
    axes: [{ ...axis, space: 80, size: 30, values: (u, list, at, space, incr) => list.map((s) => tick(s, incr)) }, { ...axis, size: 58, values: (u, list) => list.map(spec.format) }],
    series: [{}, ...spec.series.map((s) => ({
      label: s.label, ot_colour: s.colour, scale: 'y', stroke: css(s.colour), dash: s.dash, width: s.width ?? 1.6, spanGaps: false,
      fill: s.fill ? css(s.fill) : undefined, points: { show: s.points ?? false, size: 5, fill: css(s.colour) },
      paths: s.bars ? uPlot.paths.bars({ size: [0.9] }) : undefined,
    }))],
    bands: spec.bands?.map(([top, bottom, fill]) => ({ series: [top, bottom], fill: css(fill) })),
    hooks: { draw: drawing(spec) },
  };
}

// A horizontal line: what is promised, or what must be crossed.
export function markLine(y, colour, label) {
  return (u, css_) => {
    const top = u.valToPos(y, 'y', true);
    if (!(top >= u.bbox.top && top <= u.bbox.top + u.bbox.height)) return;
    const c = u.ctx;
    c.save();
    c.strokeStyle = c.fillStyle = css_(colour);
    c.setLineDash([5, 4]);
    c.lineWidth = devicePixelRatio;
    c.beginPath();
    c.moveTo(u.bbox.left, top);
    c.lineTo(u.bbox.left + u.bbox.width, top);
    c.stroke();
    c.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    c.textAlign = 'left';
    c.fillText(label, u.bbox.left + 4, top - 4 * devicePixelRatio);
    c.restore();
  };
}

// The short name at the end of each line: which one it is must not hang on its colour.
function drawTags(u, tags, css_) {
  const c = u.ctx, px = devicePixelRatio;
  c.save();
  c.font = `600 ${11 * px}px system-ui, sans-serif`;
  c.textAlign = 'right';
  const placed = [];
  tags.forEach((tag, i) => {
    const values = u.data[i + 1];
    let k = values.length - 1;
    while (k >= 0 && values[k] == null) k--;
    if (!tag || k < 0) return;
    placed.push({ tag, colour: css_(u.series[i + 1].ot_colour), x: u.valToPos(u.data[0][k], 'x', true),
      y: u.valToPos(values[k], 'y', true) - 5 * px });
  });
  // Lines that end together have their names one above the other.
  placed.sort((a, b) => b.y - a.y);
  placed.forEach((t, i) => {
    const below = placed[i - 1];
    if (below && Math.abs(below.x - t.x) < 24 * px) t.y = Math.min(t.y, below.y - 11 * px);
    c.fillStyle = t.colour;
    c.fillText(t.tag, t.x, t.y);
  });
  c.restore();
}

function drawing(spec) {
  return [(u) => {
    drawTags(u, spec.series.map((s) => s.tag), css);
    if (spec.draw) spec.draw(u, css);
  }];
}

export function Chart({ label, spec, data }) {
  const box = useRef(null);
  const plot = useRef(null);
  const shape = JSON.stringify([spec.series, spec.bands, spec.height, dark.matches]);
  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf(spec, box.current.clientWidth || 300), data, box.current);
    };
    make();
    const seen = new ResizeObserver(() => {
      const width = box.current.clientWidth;
      if (width && width !== plot.current.width) plot.current.setSize({ width, height: plot.current.height });
    });
    seen.observe(box.current);
    dark.addEventListener('change', make);
    return () => {
      seen.disconnect();
      dark.removeEventListener('change', make);
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => {
    const u = plot.current;
    if (!u) return;
    u.hooks.draw = drawing(spec);
    u.setData(data);
  }, [data]);
  const said = spec.series.filter((s) => s.label).map((s) => `${s.label}: ${s.said ?? ''}`).join('; ');
  return html`<figure>
    <figcaption>${spec.series.filter((s) => s.label).map((s) => html`<span class="key">
      <svg width="22" height="8" aria-hidden="true"><line x1="0" x2="22" y1="4" y2="4" class=${s.colour.slice(2)}
        stroke-width="2.5" stroke-dasharray=${(s.dash ?? []).join(' ')} /></svg>
      ${s.label}${s.said ? html` <b>${s.said}</b>` : ''}</span>`)}</figcaption>
    <div class="plot" ref=${box} role="img" aria-label="${label}. ${said}"></div>
  </figure>`;
}
