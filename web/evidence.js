// Evidence against its threshold, and the features that moved.

import { html, useMemo } from '/vendor/preact.js';
import { get } from '/api.js';
import { Chart, LOOKS, markLine } from '/chart.js';
import * as f from '/format.js';
import { Badge, Card, Empty, useAsk } from '/parts.js';

const BLOCKS = 300;
const MOVED = 12; // shown

// Evidence grows by factors: the bar is in decades.
function Bar({ name, evidence, threshold }) {
  const at = Math.max(0, Math.min(1, Math.log10(Math.max(1, evidence)) / Math.log10(threshold)));
  const over = evidence >= threshold;
  return html`<div class="bar-row"><span class="name">${name}</span>
    <svg class="bar ${over ? 'bad' : ''}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
      <rect class="track" width="100" height="8" /><rect class="fill" width=${100 * at} height="8" /></svg>
    <span class="figure">${over ? '▲ ' : ''}${f.short(evidence)} of ${f.short(threshold)}</span></div>`;
}

function Side({ name, side }) {
  if (side.reason) return html`<p class="dim">${name}: no evidence; ${side.reason}</p>`;
  if (side.learning) {
    return html`<p>${name}: learning this version’s own traffic, ${f.count(side.blocks_seen)} of ${
      f.count(side.blocks_needed)} blocks</p>`;
  }
  return html`<${Bar} name=${name} evidence=${side.evidence} threshold=${side.threshold} />`;
}

const sized = (m) => (m.unit === 'share' ? `${m.effect >= 0 ? '+' : '−'}${(100 * Math.abs(m.effect)).toFixed(1)} points`
  : `${m.effect >= 0 ? '+' : '−'}${f.short(Math.abs(m.effect))} σ`);

function Moved({ list }) {
  // Sigmas and shares are different things: each kind of bar has a scale of its own.
  const most = {};
  for (const m of list) most[m.unit] = Math.max(most[m.unit] ?? 1e-9, Math.abs(m.effect));
  return html`<table><caption class="hidden">Features that moved</caption>
    <thead><tr><th>Moved</th><th>By</th><th>Effect</th><th>Since</th></tr></thead>
    <tbody>${list.slice(0, MOVED).map((m) => {
      const w = 50 * Math.abs(m.effect) / most[m.unit];
      return html`<tr key=${m.name + m.kind} title=${m.text}><td>${m.name} <span class="dim">${m.kind}</span></td>
        <td><svg class="effect" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
          <line x1="50" x2="50" y1="0" y2="10" class="zero" />
          <rect x=${m.effect >= 0 ? 50 : 50 - w} width=${w} y="1" height="8" /></svg></td>
        <td class="figure">${sized(m)}</td><td>${f.time(m.since_us)}</td></tr>`;
    })}</tbody></table>
    ${list.length > MOVED && html`<p class="dim">and ${f.count(list.length - MOVED)} that moved less</p>`}`;
}

// Blocks newest first -> columns of the evidence, in decades: [x, inputs, outputs].
export function decades(events) {
  const rows = events.map((e) => e.payload).filter((p) => p && 'inputs_before' in p).reverse();
  const log = (v) => (v == null ? null : Math.log10(Math.max(1, v)));
  return [rows.map((p) => p.block_us / 1e6), rows.map((p) => log(p.inputs_before)), rows.map((p) => log(p.outputs_before))];
}

function OverTime({ app, threshold }) {
  const { data } = useAsk((signal) => get('/events', { type: 'windows.received', object: `deployment/${app.deployment}`,
    newest: 1, limit: BLOCKS }, signal), [app.deployment, app.quality?.drift?.last_block_us]);
  const columns = useMemo(() => decades(data?.events ?? []), [data]);
  if (columns[0].length < 2 || !columns.slice(1).some((c) => c.some((v) => v != null))) return null;
  const top = Math.log10(threshold);
  const series = ['Inputs', 'Outputs'].map((label, i) => ({ label, ...LOOKS[i] }));
  return html`<${Chart} label="Evidence by block, in powers of ten" data=${columns} spec=${{ series, height: 130,
    range: () => [0, top * 1.15], format: (y) => (Number.isInteger(y) ? `10${[...String(y)].map((c) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[c]).join('')}` : ''),
    draw: markLine(top, '--bad', `alarm at ${f.short(threshold)}`) }} />`;
}

export function EvidenceCard({ app }) {
  const q = app.quality ?? {}, d = q.drift, l = q.labels;
  const moved = [...(d?.moved ?? []), ...(d?.outputs?.moved ?? [])].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
  const title = html`<${Badge} kind=${app.degraded ? 'bad' : app.drift ? 'waits' : d ? 'good' : 'plain'}>${
    app.degraded ? 'degraded' : app.drift ? 'drift' : d ? 'no change proven' : 'nothing known'}<//>`;
  return html`<${Card} title="Evidence of change" id="h-evidence" extra=${title}>
    ${!d && html`<${Empty}>No windows yet: evidence begins with the first traffic.<//>`}
    ${d && html`<${Side} name="Inputs" side=${d} />`}
    ${d?.outputs && html`<${Side} name="Outputs" side=${d.outputs} />`}
    ${d?.threshold > 0 && html`<${OverTime} app=${app} threshold=${d.threshold} />`}
    ${l?.threshold > 0 && html`<${Bar} name=${l.degraded ? 'Labels: recovered' : 'Labels: accuracy fell'}
      evidence=${l.evidence} threshold=${l.threshold} />`}
    ${l && html`<p class="dim">${f.count(l.joined)} labels joined, ${f.count(l.waiting)} wait for their row</p>`}
    ${d?.promise_suspended && html`<p class="error">▲ the promise of false alarms is suspended: an audit failed</p>`}
    ${moved.length > 0 && html`<${Moved} list=${moved} />`}
  <//>`;
}
