// The panel of the error budgets. `node --test --import ./tests/page/paths.mjs tests/page/budget.test.mjs`

import assert from 'node:assert/strict';
import test from 'node:test';

import { budgetRows, budgetTroubles } from '/budget.js';
import { kindOf } from '/kinds.js';
import { actionsOf, health } from '/loop.js';
import { troubles } from '/troubles.js';

const HOUR = 3.6e9, DAY = 24 * HOUR;
const rate = (value, holds = false, long = HOUR) => ({ threshold: 14.4, long_us: long, short_us: 3e8, rate: value, rate_short: value,
  severity: 'page', holds });
const budget = (more) => ({ objective: 'availability', allowed: 0.001, over_us: 28 * DAY, events: 4e6, bad: 1000, remaining: 0.75,
  rates: [rate(0), rate(0, false, 6 * HOUR)], burning: null, spent: false, off: false, granted_until_us: null, ...more });
const app = (budgets, more) => ({ app: 'x', champion: 1, loop: 'running', cycle: { state: 'idle' }, budgets, automation_off: null, ...more });

test('a row says what is left and of what', () => {
  const [r] = budgetRows(app([budget()]));
  assert.deepEqual(r, { id: 'availability', name: 'Availability', kind: 'good', word: 'holds', left: 0.75, figure: '75.0% left',
    detail: '1,000 of 4,000,000 requests failed in 28 d, 0.10% may' });
  assert.deepEqual(budgetRows({}), []);
});

test('more than all is gone', () => {
  const [r] = budgetRows(app([budget({ remaining: -0.5, spent: true, off: true })]));
  assert.deepEqual([r.kind, r.word, r.left, r.figure], ['bad', 'spent', 0, '50% over']);
});

test('what burns is told by the rule that holds', () => {
  const a = app([budget({ burning: 'page', rates: [rate(3), rate(7, true, 6 * HOUR)] })]);
  assert.match(budgetRows(a)[0].detail, /burns at 7.00 over 6 h$/);
  assert.equal(budgetRows(a)[0].kind, 'bad');
  // Three quarters of 28 days, seven times as fast: three days.
  assert.deepEqual(budgetTroubles(a), [['bad', 'Availability burns its error budget 7.00 times as fast as it may: 75.0% is left.',
    'At this rate for 3 d.']]);
  assert.equal(budgetRows(app([budget({ burning: 'ticket' })]))[0].kind, 'waits');
});

test('what a person bears is no trouble, what is off is', () => {
  const borne = budget({ spent: true, remaining: -0.1, granted_until_us: 1.7e15 });
  assert.match(budgetRows(app([borne]))[0].detail, /borne until 2023-11-1/);
  assert.deepEqual(budgetTroubles(app([borne])), []);
  const off = app([budget({ objective: 'accuracy', spent: true, off: true, burning: 'page' })], { automation_off: 'the budget is spent' });
  assert.deepEqual(budgetTroubles(off), [['bad', 'Nothing is done by itself: the budget is spent.',
    '“Resume” lets it go on; “Train now” begins a repair that is not held.']]);
  assert.ok(troubles(off).some(([, what]) => what.startsWith('Nothing is done by itself')));
});

test('resume asks why, and pause stays', () => {
  const verbs = (a) => Object.fromEntries(actionsOf(a).map(([verb, , needsReason]) => [verb, needsReason]));
  const off = app([], { automation_off: 'spent' });
  assert.equal(verbs(off).resume, true);
  assert.ok('pause' in verbs(off) && !('resume' in verbs(app([]))));
  assert.equal(verbs(app([], { loop: 'paused' })).resume, false);
  assert.deepEqual(health(off), ['bad', 'budget spent']);
});

test('events of a budget have their kind', () => {
  assert.deepEqual(['burning', 'spent', 'recovered', 'restored'].map((v) => kindOf({ type: `budget.${v}` })), ['bad', 'bad', 'good', 'good']);
  assert.equal(kindOf({ type: 'release.held' }), 'waits');
});
