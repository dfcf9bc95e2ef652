// What a training kept on the way and the registry has.

import { html } from '/vendor/preact.js';
import { get } from '/api.js';
import * as f from '/format.js';
import { Card, useAsk } from '/parts.js';

const metrics = (m) => Object.entries(m).map(([name, x]) => `${name} ${x == null ? '–' : f.short(x)}`).join(', ');

export function Checkpoints({ run, again }) {
  const { data } = useAsk((s) => get(`/runs/${run}/checkpoints`, null, s), [run, again]);
  if (!data?.checkpoints.length) return null;
  return html`<${Card} title="Checkpoints" id="h-checkpoints" wide>
    <table><caption class="hidden">Checkpoints of this training, newest first</caption>
      <thead><tr><th>Step</th><th>Kept by</th><th>At</th><th>Size</th><th class="wide-col">It says</th></tr></thead>
      <tbody>${data.checkpoints.map((c) => html`<tr key=${c.step + c.checkpoint}><td>${f.count(c.step)}</td>
        <td>${c.run === run ? 'this run' : html`<a href="#/runs/${c.run}">run ${c.run}</a>`}</td>
        <td>${f.time(c.made_us)}</td><td>${f.bytes(c.size_bytes)}</td>
        <td class="wide-col">${metrics(c.metrics)}</td></tr>`)}</tbody></table>
  <//>`;
}
