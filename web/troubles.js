// What is wrong with an app, worst first, and what a person can do about it. Pure.

import { budgetTroubles } from '/budget.js';
import { OBJECTIVES, valueText } from '/format.js';
import { cycleText } from '/loop.js';

function named(list) {
  const names = [...new Set(list.map((m) => m.name))];
  if (!names.length) return 'many a little';
  return names.slice(0, 3).join(', ') + (names.length > 3 ? ` and ${names.length - 3} more` : '');
}

function onItsWay(app) {
  return app.cycle.state === 'idle' ? '' : `Under way: ${cycleText(app.cycle)}.`;
}

function degraded(app) {
  const o = (app.objectives ?? []).find((x) => x.objective === 'accuracy');
  const before = (app.quality?.accuracy ?? []).find((a) => a.version === app.previous && a.labelled);
  const back = app.previous ? `“Roll back” gives v${app.previous}${before
    ? `, right on ${Math.round(100 * before.estimate)}% of the last day` : ''}` : '';
  const help = onItsWay(app) || [app.loop === 'frozen' ? '' : '“Train now” learns from the newest rows', back].filter(Boolean).join('; ') + '.';
  return ['bad', `v${app.champion} is worse than promised${o ? `: accuracy ${valueText(o)}, promised is ${o.target}` : ''}.`, help];
}

// [kind, what, what to do] of each.
export function troubles(app) {
  const out = [], c = app.cycle, d = app.quality?.drift;
  if (app.degraded) out.push(degraded(app));
  out.push(...budgetTroubles(app));
  for (const o of app.objectives ?? []) {
    if (o.holds !== false || (o.objective === 'accuracy' && app.degraded)) continue;
    out.push(['bad', `${OBJECTIVES[o.objective] ?? o.objective} ${valueText(o)}; promised is ${o.target}.`,
      app.previous ? `If it began with v${app.champion}, “Roll back” gives v${app.previous}.` : '']);
  }
  if (app.failures > 0) {
    out.push(['bad', `${app.failures} ${app.failures === 1 ? 'cycle' : 'cycles in a row'} failed.`,
      'The newest failed run, below, says why in its log.']);
  }
  if (app.site?.forbids) {
    out.push(['bad', `The site forbids this app: ${app.site.forbids}.`,
      'It serves on, but no run starts and no release moves until its file or the site’s is mended.']);
  } else if (c.waits) {
    out.push(['waits', `${c.version ? `v${c.version}` : `Cycle ${c.number}`} ${c.waits}.`, '']);
  }
  if (c.stage === 'approval') out.push(['waits', `v${c.version} waits for a person.`, '“Approve” or “Reject”.']);
  if (app.unloaded_by) {
    out.push(['waits', `No replica serves it: it was unloaded by ${app.unloaded_by}.`, `To serve it again: overtake load ${app.app}.`]);
  }
  if (app.loop !== 'running') {
    out.push(['waits', `The loop is ${app.loop}${app.held_by ? ` by ${app.held_by}` : ''}${app.held_reason
      ? `: ${app.held_reason}` : ''}.`, 'Nothing is retrained by itself until “Resume”.']);
  }
  if (app.drift) {
    const moved = [...(d?.moved ?? []), ...(d?.outputs?.moved ?? [])].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
    out.push(['waits', `The traffic changed: ${named(moved)}.`, app.degraded ? ''
      : 'Nothing is proven about the answers; labels will tell. “Train now” if you know that they are wrong.']);
  }
  if (d?.promise_suspended) {
    out.push(['waits', 'Alarms may be false more often than was promised: the traffic varies more than what was learnt.', '']);
  }
  return out;
}
