// What serves, what is on, what was promised.

import { html } from '/vendor/preact.js';
import * as f from '/format.js';
import { cycleText, deadlineText } from '/loop.js';
import { Ago, Badge, ICONS, useNow } from '/parts.js';
import { troubles } from '/troubles.js';

function Serves({ app }) {
  if (!app.champion) {
    return html`<p class="big">nothing serves yet</p><p class="dim">${app.cycle.state === 'idle'
      ? 'The first training starts with the next apply, or with “Train now”.' : 'The first version is on its way.'}</p>`;
  }
  return html`<p class="big" data-champion=${app.champion}>v${app.champion}</p>
    <p>since ${f.time(app.champion_since_us)} (<${Ago} us=${app.champion_since_us} />)${app.previous
      ? html`, before it v${app.previous}` : ''}</p>`;
}

// The API gives champion minus candidate; here more is better.
function Evidence({ app, e }) {
  const n = e.compared;
  const lo = -e.upper, hi = -e.lower, at = (x) => 50 + 50 * Math.max(-1, Math.min(1, x));
  const verdict = { 'not worse': ['good', 'not worse'], worse: ['bad', 'worse'] }[e.verdict] ?? ['plain', 'undecided'];
  return html`<div class="evidence">
    <p><${Badge} kind=${verdict[0]}>${verdict[1]}<//> on ${f.count(n)} rows that both answered</p>
    ${n > 0 && html`<p>v${app.cycle.version} right on ${f.percent(e.candidate_right / n)}, v${app.champion}${' '}
        on ${f.percent(e.champion_right / n)}; new minus old ${(100 * lo).toFixed(1)} to
        ${' '}${(100 * hi).toFixed(1)} points</p>
      <svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
        <line x1="50" x2="50" y1="0" y2="12" class="zero" />
        <line x1=${at(lo)} x2=${at(hi)} y1="6" y2="6" class="range" />
      </svg>
      <p class="dim scale"><span>worse</span><span>the same</span><span>better</span></p>`}
  </div>`;
}

function Cycle({ app }) {
  const c = app.cycle, now = useNow() * 1000;
  return html`<p class="big" data-cycle=${c.state} data-stage=${c.stage ?? ''}>${cycleText(c)}</p>
    ${c.state === 'idle' && html`<p class="dim">${c.number ? `The last cycle was number ${c.number}.` : 'No cycle yet.'}</p>`}
    ${c.entered_us && html`<p>since ${f.time(c.entered_us)}${f.never(c.deadline_us) ? ''
      : `, ${deadlineText(c.deadline_us, now)} (by ${f.time(c.deadline_us)})`}</p>`}
    ${c.stage === 'approval' && html`<p><${Badge} kind="waits">waits for you<//> approve or reject it above</p>`}
    ${c.candidate && html`<p>v${c.version} is ${c.candidate} on the replicas</p>`}
    ${c.run && html`<p><a href="#/runs/${c.run}">log of run ${c.run}</a></p>`}
    ${c.evidence && html`<${Evidence} app=${app} e=${c.evidence} />`}`;
}

function Loop({ app }) {
  const kind = app.loop === 'running' ? 'good' : 'waits';
  return html`<p class="big" data-loop=${app.loop}><${Badge} kind=${kind}>${app.loop}<//></p>
    ${app.loop === 'running' && html`<p class="dim">${app.plan?.retrain_when.length
      ? html`trains again when <code>${app.plan.retrain_when.join(' or ')}</code>` : 'trains again when somebody asks for it'}</p>`}
    ${app.held_by && html`<p>by ${app.held_by}: ${app.held_reason}</p>`}
    ${app.failures > 0 && html`<p><${Badge} kind="bad">${app.failures} failed in a row<//></p>`}`;
}

function Objectives({ list }) {
  if (!list?.length) return html`<p class="dim">The app file promises nothing; <code>objectives:</code> does.</p>`;
  return html`<ul class="bare">${list.map((o) => html`<li>
    <${Badge} kind=${o.holds === true ? 'good' : o.holds === false ? 'bad' : 'plain'}>${o.holds === true ? 'holds'
      : o.holds === false ? 'missed' : 'open'}<//> ${f.OBJECTIVES[o.objective] ?? o.objective} ${f.valueText(o)}
    <span class="dim"> ${o.target}</span></li>`)}</ul>`;
}

// Nothing here when nothing is wrong.
export function Troubles({ app }) {
  const list = troubles(app);
  if (!list.length) return null;
  return html`<section class="troubles" aria-label="What needs you"><ul class="bare">${list.map(([kind, what, help]) =>
    html`<li class=${kind}><span aria-hidden="true">${ICONS[kind]}</span> <b>${what}</b> ${help}</li>`)}</ul></section>`;
}

export function Now({ app }) {
  return html`<div class="tiles">
    <section class="card" aria-label="What serves"><h3>Serves</h3><${Serves} app=${app} /></section>
    <section class="card" aria-label="What is under way"><h3>Under way</h3><${Cycle} app=${app} /></section>
    <section class="card" aria-label="The loop"><h3>Loop</h3><${Loop} app=${app} /></section>
    <section class="card" aria-label="Objectives"><h3>Objectives</h3><${Objectives} list=${app.objectives} /></section>
  </div>`;
}
