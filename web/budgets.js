// The panel of the error budgets.

import { html } from '/vendor/preact.js';
import { budgetRows } from '/budget.js';
import { Badge, Card } from '/parts.js';

const Row = ({ row }) => html`<li data-budget=${row.id}><div class="bar-row"><span class="name">${row.name}</span>
  <svg class="bar ${row.kind === 'bad' ? 'bad' : ''}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" width="100" height="8" /><rect class="fill" width=${100 * row.left} height="8" /></svg>
  <span class="figure">${row.figure}</span></div>
  <div class="row"><${Badge} kind=${row.kind}>${row.word}<//><span class="dim">${row.detail}</span></div></li>`;

export function BudgetCard({ app }) {
  const rows = budgetRows(app);
  if (!rows.length) return null;
  return html`<${Card} title="Error budgets" id="h-budgets" wide>
    <ul class="bare">${rows.map((row) => html`<${Row} key=${row.id} row=${row} />`)}</ul><//>`;
}
