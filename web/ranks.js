// The ranks of a training: what they do together, and each of them.

import { html } from '/vendor/preact.js';
import * as f from '/format.js';
import { facts } from '/job.js';
import { Badge, Card } from '/parts.js';

const KINDS = { running: 'active', stopped: 'waits', ended: 'plain', failed: 'bad' };

// In an elastic job another process may have that rank by now.
const logOf = (r) => r.process ?? r.rank;

export function Ranks({ job, running, rank, choose }) {
  const more = job.np - job.ranks.length;
  const stateOf = (r) => (r.rank === job.result?.rank ? 'failed' : running ? r.state : 'ended'); // why: the run says it
  return html`<${Card} title="Ranks" id="h-ranks" wide>
    <dl>${facts(job, running).map(([k, v]) => html`<dt>${k}</dt><dd>${v}</dd>`)}</dl>
    <table><caption class="hidden">Ranks, each with what it printed</caption>
      <thead><tr><th>Output of</th><th>Host</th><th>State</th><th class="wide-col">Waited for others</th></tr></thead>
      <tbody><tr><td><button class="link" aria-pressed=${rank == null ? 'true' : 'false'}
          onClick=${() => choose(null)}>all ranks</button></td><td></td><td></td><td class="wide-col"></td></tr>
        ${job.ranks.map((r) => html`<tr key=${r.rank}><td><button class="link"
          aria-pressed=${rank === logOf(r) ? 'true' : 'false'} onClick=${() => choose(logOf(r))}>rank ${r.rank}</button></td>
        <td>${r.host}</td><td><${Badge} kind=${KINDS[stateOf(r)] ?? 'plain'}>${stateOf(r)}<//></td>
        <td class="wide-col">${f.took(r.waits_us)}</td></tr>`)}</tbody></table>
    ${more > 0 && html`<p class="dim">and ${f.count(more)} more: overtake logs RUN --rank N</p>`}
  <//>`;
}
