// The loop as a graph: which steps an app has and how each of them stands. Pure.

import { percent, short, span } from '/format.js';

// A cycle begins with one of these.
const BEGINS = new Set(['trigger.fired', 'version.pushed', 'app.applied']);

// The events of the newest cycle of an app, oldest first, and without the routine.
export function lastCycle(events, app) {
  const out = [];
  for (let i = events.length - 1; i >= 0; i--) {
    const e = events[i];
    if (e.scope !== app || e.quiet) continue;
    out.push(e);
    if (BEGINS.has(e.type) && out.some((x) => x.type === 'run.started')) break;
  }
  return out.reverse();
}

const STEP_NODE = { train: 'train', package: 'package', evaluate: 'gate' };
const STATE_NODE = { training: 'train', packaging: 'package', registering: 'package', evaluating: 'gate' };
const LABELS = { data: 'Data', train: 'Train', package: 'Package', gate: 'Gate', approval: 'Approval',
  shadow: 'Shadow', canary: 'Canary', blue_green: 'Blue-green', promoted: 'Promoted', probation: 'Probation', serving: 'Serving',
  quality: 'Quality' };
export const WORDS = { active: 'now', done: 'done', bad: 'failed', waits: 'waits', todo: 'to come', off: 'not used',
  good: 'well' };

function stagesOf(app) {
  const names = (app.plan?.stages ?? []).map((s) => s.stage).filter((s) => s !== 'gate');
  // Blue-green keeps the previous version as a probation does.
  return names.includes('blue_green') && !names.includes('probation') ? [...names, 'probation'] : names;
}

// Where the newest cycle failed, if it did.
function failedAt(cycle) {
  let stage = null, run = null, at = null;
  for (const e of cycle) {
    if (e.type === 'stage.entered' || e.type === 'approval.requested') stage = e.stage ?? 'approval';
    if (e.type === 'run.started') run = e.step;
    if (e.type === 'gate.refused') at = 'gate';
    if (e.type === 'cycle.failed') at = stage ?? STEP_NODE[run] ?? 'train';
    if (e.type === 'version.rolled_back' || e.type === 'release.stopped') at = stage ?? 'gate';
  }
  return at;
}

function reached(app, cycle, path) {
  const c = app.cycle;
  if (c.state !== 'idle') return path.indexOf(c.stage ?? STATE_NODE[c.state] ?? 'train');
  const bad = failedAt(cycle);
  if (bad) return path.indexOf(bad);
  return app.champion ? path.length : -1;
}

function details(app) {
  const c = app.cycle, q = app.quality?.drift, d = {};
  const accuracy = (app.quality?.accuracy ?? []).find((a) => a.version === app.champion);
  d.data = app.labels_new > 0 ? `${short(app.labels_new)} labels` : (app.plan?.data ?? []).join(', ');
  if (c.state === 'training' && c.run) d.train = `run ${c.run}`;
  if (c.stage === 'canary') d.canary = percent(c.share, 0);
  if (app.champion) d.serving = `v${app.champion}`;
  if (app.champion) d.promoted = `v${app.champion}`;
  if (c.version && STATE_NODE[c.state] === 'gate') d.gate = `v${c.version}`;
  for (const s of ['shadow', 'blue_green', 'probation', 'approval']) if (c.stage === s && c.version) d[s] = `v${c.version}`;
  d.quality = app.degraded ? 'degraded'
    : app.drift ? 'drift'
      : accuracy?.labelled ? percent(accuracy.estimate)
        : q?.learning ? 'learning' : '';
  return d;
}

export function graphOf(app, events) {
  const cycle = lastCycle(events, app.app), stages = stagesOf(app), c = app.cycle;
  const path = ['train', 'package', 'gate', ...stages.filter((s) => s !== 'probation'), 'promoted',
    ...(stages.includes('probation') ? ['probation'] : [])];
  const at = reached(app, cycle, path), busy = c.state !== 'idle';
  const bad = busy ? null : failedAt(cycle), text = details(app);
  // A first version has nothing to be compared with: it passes stages without entering them.
  const whole = cycle.length > 0 && BEGINS.has(cycle[0].type);
  const entered = new Set(cycle.map((e) => e.stage));
  const nodes = [{ id: 'data', state: 'done' }];
  path.forEach((id, i) => {
    let state = i < at ? 'done' : i > at ? 'todo' : busy ? 'active' : 'done';
    if (state === 'done' && whole && stages.includes(id) && !entered.has(id)) state = 'off';
    if (id === bad) state = 'bad';
    else if (i === at && id === 'approval') state = 'waits';
    if (id === 'promoted' && !busy && app.champion && !bad) state = 'done';
    nodes.push({ id, state });
  });
  nodes.push({ id: 'serving', state: app.champion ? 'good' : 'todo' });
  nodes.push({ id: 'quality', state: app.degraded ? 'bad' : app.drift ? 'waits' : app.champion ? 'good' : 'todo' });
  for (const n of nodes) {
    const silent = n.state === 'todo' || n.state === 'off';
    Object.assign(n, { label: LABELS[n.id], detail: silent ? '' : text[n.id] ?? '' });
  }
  const edges = nodes.slice(1).map((n, i) => [nodes[i].id, n.id]);
  edges.push(['quality', 'data']);
  return { nodes, edges };
}

// One sentence on what is on: the same words as `overtake status`.
export function cycleText(c) {
  if (!c || c.state === 'idle') return 'idle';
  let s = c.state;
  if (c.version) s += ` v${c.version}`;
  if (c.stage) s += `: ${c.stage}${c.share > 0 && c.share < 1 ? ` at ${percent(c.share, 0)}` : ''}`;
  else if (c.run) s += ` (run ${c.run})`;
  return s;
}

export function deadlineText(us, nowUs) {
  return us >= nowUs ? `decided in ${span(us - nowUs)}` : `overdue by ${span(nowUs - us)}`;
}

export function health(app) {
  if (app.degraded) return ['bad', 'degraded'];
  if (app.automation_off) return ['bad', 'budget spent'];
  if (app.drift) return ['waits', 'drift'];
  if (!app.champion) return ['plain', 'nothing serves yet'];
  return ['good', 'well'];
}

// What a person can do now: [verb, label, needs a reason, why not].
export function actionsOf(app) {
  const idle = app.cycle.state === 'idle', frozen = app.loop === 'frozen', held = app.loop !== 'running';
  const busy = idle ? '' : `it is ${cycleText(app.cycle)}`, out = [];
  if (app.cycle.stage === 'approval') out.push(['approve', 'Approve', false, ''], ['reject', 'Reject', true, '']);
  out.push(['train', 'Train now', false, busy || (frozen ? 'it is frozen' : '')]);
  if (held || app.automation_off) out.push(['resume', 'Resume', Boolean(app.automation_off), '']);
  if (!held) out.push(['pause', 'Pause', false, '']);
  if (!frozen) out.push(['freeze', 'Freeze', false, '']);
  const nothing = !app.previous && idle ? 'there is no version before this one' : '';
  out.push(['rollback', 'Roll back', true, nothing]);
  return out;
}
