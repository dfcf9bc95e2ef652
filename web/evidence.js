// Evidence against its threshold, and the features that moved.

import { html } from '/vendor/preact.js';
import * as f from '/format.js';
import { Badge, Card, Empty } from '/parts.js';

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
  const most = Math.max(...list.map((m) => Math.abs(m.effect)), 1e-9);
  return html`<table><caption class="hidden">Features that moved</caption>
    <thead><tr><th>Moved</th><th class="wide-col">By</th><th>Effect</th><th>Since</th></tr></thead>
    <tbody>${list.slice(0, 40).map((m) => {
      const w = 50 * Math.abs(m.effect) / most;
      return html`<tr key=${m.name + m.kind} title=${m.text}><td>${m.name} <span class="dim">${m.kind}</span></td>
        <td><svg class="effect" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
          <line x1="50" x2="50" y1="0" y2="10" class="zero" />
          <rect x=${m.effect >= 0 ? 50 : 50 - w} width=${w} y="1" height="8" /></svg></td>
        <td class="figure">${sized(m)}</td><td>${f.time(m.since_us)}</td></tr>`;
    })}</tbody></table>
    ${list.length > 40 && html`<p class="dim">and ${list.length - 40} more: overtake status</p>`}`;
}

export function EvidenceCard({ app }) {
  const q = app.quality ?? {}, d = q.drift, l = q.labels;
  const moved = [...(d?.moved ?? []), ...(d?.outputs?.moved ?? [])].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
  const title = html`<${Badge} kind=${app.degraded ? 'bad' : app.drift ? 'waits' : 'good'}>${app.degraded ? 'degraded'
    : app.drift ? 'drift' : 'nothing proven'}<//>`;
  return html`<${Card} title="Evidence of change" id="h-evidence" extra=${title}>
    ${!d && html`<${Empty}>No windows yet: evidence begins with the first traffic.<//>`}
    ${d && html`<${Side} name="Inputs" side=${d} />`}
    ${d?.outputs && html`<${Side} name="Outputs" side=${d.outputs} />`}
    ${l?.threshold > 0 && html`<${Bar} name=${l.degraded ? 'Labels: recovered' : 'Labels: accuracy fell'}
      evidence=${l.evidence} threshold=${l.threshold} />`}
    ${l && html`<p class="dim">${f.count(l.joined)} labels joined, ${f.count(l.waiting)} wait for their row</p>`}
    ${d?.promise_suspended && html`<p class="error">▲ the promise of false alarms is suspended: an audit failed</p>`}
    ${moved.length > 0 && html`<${Moved} list=${moved} />`}
  <//>`;
}
