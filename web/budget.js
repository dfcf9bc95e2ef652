// Error budgets: what each row of the panel says, and which of it is trouble. Pure.

import { OBJECTIVES, count, percent, short, span, time } from '/format.js';

const name = (b) => OBJECTIVES[b.objective] ?? b.objective;
const BAD = { availability: 'requests failed', latency_p99: 'windows were slow', accuracy: 'labelled answers were wrong' };
// The first rate that is as high as its rule says, else the first of all.
const rateOf = (b) => b.rates.find((r) => r.holds) ?? b.rates[0];

function stateOf(b) {
  if (b.off) return ['bad', 'spent'];
  if (b.spent) return ['waits', 'spent, borne'];
  if (b.burning) return [b.burning === 'page' ? 'bad' : 'waits', 'burns'];
  return ['good', 'holds'];
}

// {name, kind, word, left: 0..1 for the bar, figure, detail} of each budget.
export function budgetRows(app) {
  return (app.budgets ?? []).map((b) => {
    const [kind, word] = stateOf(b), r = rateOf(b);
    const said = [`${count(Math.round(b.bad))} of ${count(Math.round(b.events))} ${BAD[b.objective] ?? 'were bad'} in ${span(b.over_us)}, ${
      percent(b.allowed, b.allowed < 0.01 ? 2 : 0)} may`];
    if (r?.rate > 0) said.push(`burns at ${short(r.rate)} over ${span(r.long_us)}`);
    if (b.granted_until_us) said.push(`borne until ${time(b.granted_until_us)}`);
    return { id: b.objective, name: name(b), kind, word, left: Math.max(0, Math.min(1, b.remaining)),
      figure: b.remaining < 0 ? `${percent(-b.remaining, 0)} over` : `${percent(b.remaining)} left`, detail: said.join('; ') };
  });
}

// [kind, what, what to do], as troubles.js has them.
export function budgetTroubles(app) {
  const out = [];
  if (app.automation_off) {
    const repair = (app.budgets ?? []).some((b) => b.off && b.objective === 'accuracy');
    out.push(['bad', `Nothing is done by itself: ${app.automation_off}.`,
      `“Resume” lets it go on${repair ? '; “Train now” begins a repair that is not held' : ''}.`]);
  }
  for (const b of app.budgets ?? []) {
    if (b.burning && !b.off) {
      const r = rateOf(b), left = Math.max(0, b.remaining);
      out.push([stateOf(b)[0], `${name(b)} burns its error budget${r.rate > 0 ? ` ${short(r.rate)} times as fast as it may` : ''}: ${percent(left)} is left.`,
        r.rate > 0 && left > 0 ? `At this rate for ${span(left / r.rate * b.over_us)}.` : '']);
    }
  }
  return out;
}
