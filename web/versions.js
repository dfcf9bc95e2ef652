// Versions of an app's model: status, metrics, where each came from.

import { html, useRef, useState } from '/vendor/preact.js';
import { get } from '/api.js';
import * as f from '/format.js';
import { Badge, Card, Empty, useAsk } from '/parts.js';

const KINDS = { champion: 'good', canary: 'active', shadow: 'active', refused: 'bad', rolled_back: 'bad', failed: 'bad',
  stopped: 'waits' };
const FIRST = 20;

// metrics are names and numbers, maybe nested a level: "base.accuracy 0.93".
export function flat(metrics, prefix = '') {
  return Object.entries(metrics ?? {}).flatMap(([k, v]) =>
    v !== null && typeof v === 'object' ? flat(v, `${prefix}${k}.`) : [[prefix + k, v]]);
}

const shown = (v) => (typeof v === 'number' ? (Number.isInteger(v) ? f.count(v) : f.short(v)) : String(v));

function Lineage({ model, version, accuracy }) {
  const { data, error } = useAsk((s) => get(`/models/${encodeURIComponent(model)}/versions/${version}`, null, s),
    [model, version]);
  const why = useAsk((s) => get(`/apps/${encodeURIComponent(model)}/why`, { version }, s), [model, version]);
  const l = data?.lineage;
  return html`<div class="lineage">
    ${error && html`<p class="error">▲ ${error}</p>`}
    ${why.data?.text && html`<p>${why.data.text}</p>`}
    ${data && html`<dl><dt>Bundle</dt><dd><code>${data.bundle}</code></dd>
      <dt>Size</dt><dd>${f.bytes(data.size_bytes)}, ${data.format}</dd>
      ${data.run && html`<dt>Made by</dt><dd><a href="#/runs/${data.run}">run ${data.run}</a></dd>`}
      ${l && html`<dt>Parent</dt><dd>${l.parent ? html`<code>${l.parent}</code>` : 'none'}</dd>
        ${l.began_from && html`<dt>Began from</dt><dd>the weights of v${l.began_from.version}</dd>`}
        ${l.code && html`<dt>Code</dt><dd><code>${l.code}</code></dd>`}
        ${Object.entries(l.data ?? {}).map(([k, v]) => html`<dt>Data ${k}</dt><dd><code>${v}</code></dd>`)}
        ${flat(l.parameters).map(([k, v]) => html`<dt>${k}</dt><dd>${shown(v)}</dd>`)}`}
      ${accuracy && html`<dt>By labels</dt><dd>${f.percent(accuracy.estimate)} (${f.percent(accuracy.lower)} to ${
        f.percent(accuracy.upper)}), ${f.count(accuracy.labelled)} labels, ${accuracy.role}</dd>`}
      ${flat(data.metrics).map(([k, v]) => html`<dt>${k}</dt><dd>${shown(v)}</dd>`)}</dl>`}
  </div>`;
}

export function Versions({ app, beat }) {
  const [open, setOpen] = useState(0);
  const [all, setAll] = useState(false);
  const known = useRef(false); // before the first version there is no model to ask for
  const { data, error } = useAsk(async (s) => {
    known.current ||= (await get('/models', null, s)).models.some((m) => m.name === app.app);
    return known.current ? get(`/models/${encodeURIComponent(app.app)}`, null, s) : { list: [] };
  }, [app.app, beat]);
  const list = data?.list ?? [], rows = all ? list : list.slice(0, FIRST);
  const labelled = (v) => (app.quality?.accuracy ?? []).find((a) => a.version === v);
  return html`<${Card} title="Versions" id="h-versions" wide extra=${html`<span class="dim">${f.count(list.length)}</span>`}>
    ${error && html`<p class="error">▲ ${error}</p>`}
    ${data && !list.length && html`<${Empty}>No version yet. The first comes out of the first training; “Train now”
      starts one.<//>`}
    ${list.length > 0 && html`<table><caption class="hidden">Versions, newest first</caption>
      <thead><tr><th>Version</th><th>Status</th><th>Since</th><th>Accuracy by labels</th><th class="wide-col">Metrics</th>
        </tr></thead>
      <tbody>${rows.map((v) => {
        const a = labelled(v.version), m = flat(v.metrics);
        return html`<tr key=${v.version} data-version=${v.version} data-status=${v.status}>
          <td><button class="link" aria-expanded=${open === v.version ? 'true' : 'false'}
            onClick=${() => setOpen(open === v.version ? 0 : v.version)}>v${v.version}</button></td>
          <td><${Badge} kind=${KINDS[v.status] ?? 'plain'}>${v.status.replace('_', ' ')}<//></td>
          <td>${f.time(v.status_us)}</td>
          <td>${a?.labelled ? `${f.percent(a.estimate)} of ${f.count(a.labelled)}` : '–'}</td>
          <td class="dim cut">${m.slice(0, 4).map(([k, x]) => `${k} ${shown(x)}`).join(', ')}${m.length > 4 ? ' …' : ''}</td>
        </tr>${open === v.version && html`<tr key=${`open-${v.version}`}><td colspan="5">
          <${Lineage} model=${app.app} version=${v.version} accuracy=${a} /></td></tr>`}`;
      })}</tbody></table>`}
    ${list.length > rows.length && html`<button onClick=${() => setAll(true)}>All ${f.count(list.length)}</button>`}
  <//>`;
}
