// The loop, drawn: dagre places, SVG shows. Names and states are read as a list by a screen reader.

import { html, useEffect, useRef, useState } from '/vendor/preact.js';
import { Graph, layout } from '/vendor/dagre.js';
import { WORDS, graphOf } from '/loop.js';

const ICONS = { active: '●', done: '✓', bad: '▲', waits: '◆', todo: '○', off: '–', good: '✓' };
const W = 110, H = 48;

let known = { key: '', laid: null };

function place(graph, across) {
  const key = graph.nodes.map((n) => n.id).join() + across;
  if (known.key === key) return known.laid;
  const g = new Graph();
  g.setGraph({ rankdir: across ? 'LR' : 'TB', nodesep: 24, ranksep: across ? 22 : 18, marginx: 4, marginy: 4 });
  g.setDefaultEdgeLabel(() => ({}));
  for (const n of graph.nodes) g.setNode(n.id, { width: across ? W : 190, height: across ? H : 34 });
  // The edge that closes the loop is drawn by us: dagre would make a rank of it.
  for (const [a, b] of graph.edges.slice(0, -1)) g.setEdge(a, b);
  layout(g);
  known = { key, laid: { g, width: g.graph().width, height: g.graph().height } };
  return known.laid;
}

function edgePath(points) {
  return 'M' + points.map((p) => `${p.x.toFixed(1)},${p.y.toFixed(1)}`).join('L');
}

const Node = ({ n, at, across }) => {
  const x = at.x - at.width / 2, y = at.y - at.height / 2, mid = at.height / 2;
  return html`<g class="node ${n.state}" data-node=${n.id} data-state=${n.state} transform="translate(${x},${y})">
    <rect width=${at.width} height=${at.height} rx="8" />
    <text class="icon" x="10" y=${across ? 19 : mid + 4}>${ICONS[n.state]}</text>
    <text class="name" x="25" y=${across ? 19 : mid + 4}>${n.label}</text>
    <text class="detail" x=${across ? 10 : at.width - 8} y=${across ? 37 : mid + 4}
      text-anchor=${across ? 'start' : 'end'}>${n.detail.length > 15 ? n.detail.slice(0, 14) + '…' : n.detail}</text>
  </g>`;
};

function Closing({ g, graph, across, size }) {
  const [a, b] = graph.edges[graph.edges.length - 1].map((id) => g.node(id));
  const d = across
    ? `M${a.x},${a.y + a.height / 2}V${size.height + 10}H${b.x}V${b.y + b.height / 2 + 2}`
    : `M${a.x + a.width / 2},${a.y}H${size.width + 12}V${b.y}H${b.x + b.width / 2 + 2}`;
  return html`<path class="edge back" d=${d} marker-end="url(#arrow)" />`;
}

export function LoopGraph({ app, events }) {
  const box = useRef(null);
  const [across, setAcross] = useState(true);
  useEffect(() => {
    const seen = new ResizeObserver(([e]) => setAcross(e.contentRect.width > 640));
    seen.observe(box.current);
    return () => seen.disconnect();
  }, []);
  const graph = graphOf(app, events);
  const laid = place(graph, across), { g } = laid;
  const width = laid.width + (across ? 0 : 20), height = laid.height + (across ? 18 : 0);
  const spoken = graph.nodes.map((n) => `${n.label}: ${WORDS[n.state]}${n.detail ? `, ${n.detail}` : ''}`).join('; ');
  return html`<div class="graph" ref=${box}>
    <svg viewBox="0 0 ${width} ${height}" role="img" aria-label="The loop. ${spoken}"
      class=${across ? 'across' : 'down'}>
      <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
        <path d="M0,0L8,4L0,8z" /></marker></defs>
      ${graph.edges.slice(0, -1).map(([a, b]) =>
        html`<path class="edge" d=${edgePath(g.edge(a, b).points)} marker-end="url(#arrow)" />`)}
      <${Closing} g=${g} graph=${graph} across=${across} size=${laid} />
      ${graph.nodes.map((n) => html`<${Node} key=${n.id} n=${n} at=${g.node(n.id)} across=${across} />`)}
    </svg></div>`;
}
