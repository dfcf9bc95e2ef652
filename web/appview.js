// One app: what serves, what is on, how well it is, what happened.

import { html } from '/vendor/preact.js';
import { Actions } from '/actions.js';
import { BudgetCard } from '/budgets.js';
import { Charts } from '/charts.js';
import { EvidenceCard } from '/evidence.js';
import { LoopGraph } from '/graph.js';
import { health } from '/loop.js';
import { Badge, Card, Guard } from '/parts.js';
import { Runs } from '/runs.js';
import { Now, Troubles } from '/stage.js';
import { Timeline } from '/timeline.js';
import { Versions } from '/versions.js';

export default function AppView({ live, app: name }) {
  const app = live.app?.app === name ? live.app : null;
  if (!app) {
    return html`<main id="main" tabindex="-1"><h1>${name}</h1>${live.error
      ? html`<p class="error" role="alert">▲ ${live.error}. <a href="#/">All apps</a></p>` : html`<p class="dim">asking …</p>`}</main>`;
  }
  const [kind, word] = health(app);
  return html`<main id="main" tabindex="-1">
    <div class="row title"><h1>${app.app}</h1><${Badge} kind=${kind}>${word}<//>
      ${app.owner && html`<span class="dim">${app.owner}</span>`}
      <span class="grow"></span><${Actions} app=${app} /></div>
    <${Troubles} app=${app} />
    <${Card} title="The loop" id="h-loop" wide><${Guard} what="The graph">
      <${LoopGraph} app=${app} events=${live.events.list} /><//><//>
    <${Now} app=${app} />
    <${Guard} what="The budgets"><${BudgetCard} app=${app} /><//>
    <${Guard} what="The charts"><${Charts} app=${app} beat=${live.beat} /><//>
    <div class="grid two">
      <${Guard} what="The evidence"><${EvidenceCard} app=${app} /><//>
      <${Runs} app=${app} beat=${live.beat} />
      <${Versions} key=${app.app} app=${app} beat=${live.beat} />
    </div>
    <${Card} title="Timeline" id="h-timeline" wide><${Timeline} scope=${app.app} /><//>
  </main>`;
}
