// Runs of an app.

import { html } from '/vendor/preact.js';
import { get } from '/api.js';
import * as f from '/format.js';
import { Badge, Card, Empty, useAsk } from '/parts.js';

export const KINDS = { succeeded: 'good', running: 'active', queued: 'plain', failed: 'bad', cancelled: 'waits',
  lost: 'bad' };

export function Runs({ app, beat }) {
  const { data, error } = useAsk((s) => get('/runs', { app: app.app, limit: 12 }, s), [app.app, beat]);
  return html`<${Card} title="Runs" id="h-runs">
    ${error && html`<p class="error">▲ ${error}</p>`}
    ${data && !data.runs.length && html`<${Empty}>No run yet.<//>`}
    ${data?.runs.length > 0 && html`<table><caption class="hidden">Runs, newest first</caption>
      <thead><tr><th>Run</th><th>Step</th><th>State</th><th>Took</th></tr></thead>
      <tbody>${data.runs.map((r) => html`<tr key=${r.run}><td><a href="#/runs/${r.run}">run ${r.run}</a></td>
        <td>${r.step}</td><td><${Badge} kind=${KINDS[r.state] ?? 'plain'}>${r.state}<//></td>
        <td>${r.started_us ? f.took((r.ended_us ?? Date.now() * 1000) - r.started_us) : '–'}</td></tr>`)}</tbody></table>`}
  <//>`;
}
