// What an event means to who reads it. Pure.

// By what a type ends with; the first that matches. The same as in the terminal (src/cli/view_event.c).
const ENDS = [
  ['degraded', 'bad'], ['at_risk', 'bad'], ['drift.detected', 'bad'], ['rolled_back', 'bad'], ['.failed', 'bad'],
  ['.lost', 'bad'], ['suspended', 'bad'], ['.forbids', 'bad'], ['loop.paused', 'waits'], ['loop.frozen', 'waits'], ['loop.pinned', 'waits'], ['app.unloaded', 'waits'],
  ['.refused', 'waits'], ['.stopped', 'waits'], ['.held', 'waits'], ['.requested', 'waits'], ['.waits', 'waits'], ['.promoted', 'good'],
  ['.burning', 'bad'], ['.spent', 'bad'], ['.restored', 'good'], ['.passed', 'good'], ['.recovered', 'good'], ['.given', 'good'], ['.resumed', 'good'], ['.allows', 'good'],
];

export const MARKS = { bad: '▲', waits: '◆', good: '✓', plain: '·' };
export const WORDS = { bad: 'alert', waits: 'needs a look', good: 'good', plain: '' };

export function kindOf(e) {
  if (e.type === 'run.finished') return (e.payload?.state ?? 'succeeded') === 'succeeded' ? 'plain' : 'bad';
  for (const [end, kind] of ENDS) if (e.type.endsWith(end)) return kind;
  return 'plain';
}

// What comes every few seconds and says nothing by itself, and what belongs to an alarm's line.
const QUIET = new Set(['windows.received', 'samples.received', 'labels.received', 'drift.spread']);
export const isQuiet = (e) => QUIET.has(e.type);

const TEXT_MAX = 400;

// What the page keeps of an event: the payload itself is asked for when somebody opens the row.
export function slim(e) {
  let text = e.payload === null ? '(erased)' : e.payload?.text;
  if (text === undefined) text = Object.keys(e.payload).length ? JSON.stringify(e.payload) : '';
  if (text.length > TEXT_MAX) text = text.slice(0, TEXT_MAX) + '…';
  return { seq: e.seq, time_us: e.time_us, type: e.type, object: e.object, actor: e.actor, scope: e.scope,
    first: e.type === 'drift.spread' ? e.payload?.first : undefined, named: e.payload?.named, step: e.payload?.step, stage: e.payload?.stage, kind: kindOf(e), quiet: isQuiet(e), text };
}

export const FILTERS = {
  story: ['Without the routine', (e) => !e.quiet],
  alerts: ['Alerts', (e) => e.kind === 'bad' || e.kind === 'waits'],
  release: ['Releases', (e) => /^(gate|stage|version|probation|approval|release)\./.test(e.type)],
  runs: ['Runs', (e) => /^(run|trigger|cycle)\./.test(e.type)],
  quality: ['Quality', (e) => /^(drift|quality|budget|labels|windows|samples)\./.test(e.type)],
  people: ['People', (e) => /^(loop|approval|app)\./.test(e.type) || e.type === 'version.pushed'],
  all: ['Everything', () => true],
};
