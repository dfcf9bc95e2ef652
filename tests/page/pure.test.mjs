// What of the page is pure. `node --test --import ./tests/page/paths.mjs tests/page/pure.test.mjs`

import assert from 'node:assert/strict';
import test from 'node:test';

import { Events, backOff, lineCutter } from '/events.js';
import * as f from '/format.js';
import { FILTERS, kindOf, slim } from '/kinds.js';
import { actionsOf, cycleText, deadlineText, graphOf, health } from '/loop.js';
import { column, columns, last, shares } from '/series.js';
import { troubles } from '/troubles.js';

const event = (seq, more = {}) => slim({ seq, time_us: seq, type: 'run.started', object: 'run/1', actor: 'a', scope: 'x',
  payload: { text: 't' }, ...more });

test('events are taken once, in order, and only so many', () => {
  const e = new Events(100);
  assert.equal(e.push([1, 2, 3].map((n) => event(n))), 3);
  assert.equal(e.push([2, 3, 4].map((n) => event(n))), 1);
  assert.equal(e.push([event(4)]), 0);
  for (let i = 5; i <= 1000; i++) e.push([event(i)]);
  assert.ok(e.list.length <= 110 && e.list.length >= 100);
  assert.equal(e.list.at(-1).seq, 1000);
  for (let i = 1; i < e.list.length; i++) assert.equal(e.list[i].seq, e.list[i - 1].seq + 1);
});

test('older events come before, without doubles, while there is room', () => {
  const e = new Events(5);
  e.push([5, 6].map((n) => event(n)));
  assert.ok(e.prepend([3, 4, 5].map((n) => event(n))));
  assert.deepEqual(e.list.map((x) => x.seq), [3, 4, 5, 6]);
  assert.ok(e.prepend([event(2)]));
  assert.equal(e.prepend([event(1)]), false);
  assert.equal(e.first, 2);
});

test('what follows an alarm is counted under it', () => {
  const e = new Events(), more = (seq, first, named) => event(seq, { type: 'drift.spread', payload: { text: '', first, named } });
  e.push([event(5, { type: 'drift.detected' }), more(6, 5, 9), more(7, 5, 12)]);
  e.prepend([more(4, 2, 3)]);
  assert.deepEqual([...e.more], [[5, 12], [2, 3]]);
  assert.ok(e.list.filter((x) => x.first).every((x) => x.quiet && x.kind === 'plain') && !e.list[1].quiet);
});

test('lines do not depend on where the bytes were cut', () => {
  const bytes = new TextEncoder().encode('{"a":"é"}\n\n{"b":1}\nrest');
  for (let cut = 0; cut <= bytes.length; cut++) {
    const lines = [], feed = lineCutter((l) => lines.push(l));
    feed(bytes.slice(0, cut));
    feed(bytes.slice(cut));
    assert.deepEqual(lines, ['{"a":"é"}', '{"b":1}']);
  }
});

test('waits grow and end growing', () => {
  const w = [0, 1, 2, 3, 4, 5, 6, 50].map((n) => backOff(n, () => 0.5));
  assert.deepEqual(w, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  assert.ok(backOff(3, () => 0) < backOff(3, () => 1));
});

test('kinds', () => {
  const kind = (type, payload) => kindOf({ type, payload });
  assert.equal(kind('quality.degraded'), 'bad');
  assert.equal(kind('run.finished', { state: 'failed' }), 'bad');
  assert.equal(kind('run.finished', { state: 'succeeded' }), 'plain');
  assert.equal(kind('version.promoted'), 'good');
  assert.equal(kind('approval.requested'), 'waits');
  assert.equal(kind('app.applied'), 'plain');
  assert.ok(FILTERS.alerts[1](slim({ type: 'drift.detected', payload: {} })));
  assert.ok(!FILTERS.story[1](slim({ type: 'windows.received', payload: {} })));
});

test('an event keeps its text, cut, and not its payload', () => {
  assert.equal(slim({ type: 'a.b', payload: null }).text, '(erased)');
  assert.equal(slim({ type: 'a.b', payload: { rows: 3 } }).text, '{"rows":3}');
  const long = slim({ type: 'a.b', payload: { text: 'x'.repeat(5000), big: 'y' } });
  assert.ok(long.text.length < 500 && !('payload' in long));
});

test('spans and figures', () => {
  assert.deepEqual([0, 59.4e6, 61e6, 600e6, 3.7e9, 1e11, 3e11, 2e12].map(f.span),
    ['0 s', '59 s', '1 min 1 s', '10 min', '1 h 1 min', '27 h', '3 d 11 h', '23 d']);
  assert.deepEqual([0, 240.4, 3100, 1.2e6, null].map(f.latency), ['0 µs', '240 µs', '3.10 ms', '1.20 s', '–']);
  assert.deepEqual([0, 0.0012, 0.5, 12.34, 7200, 2.5e7].map(f.short), ['0', '1.2e-3', '0.50', '12.3', '7,200', '2.5e7']);
  assert.equal(f.percent(0.9321), '93.2%');
  assert.equal(f.bytes(5723), '5.6 KiB');
  assert.ok(f.never(9223372036854775807) && !f.never(1.8e15));
});

const app = (more = {}) => ({ app: 'x', champion: 2, previous: 1, loop: 'running', degraded: false, drift: false,
  labels_new: 0, cycle: { state: 'idle' }, quality: { accuracy: [] },
  plan: { data: ['base'], stages: ['gate', 'shadow', 'canary', 'probation'].map((stage) => ({ stage })) }, ...more });
const states = (a, events = []) => Object.fromEntries(graphOf(a, events).nodes.map((n) => [n.id, n.state]));
const story = (...list) => list.map(([type, payload], i) => event(i + 1, { type, payload: payload ?? {} }));

test('the graph has the stages of the app file, and closes', () => {
  const g = graphOf(app(), []);
  assert.deepEqual(g.nodes.map((n) => n.id), ['data', 'train', 'package', 'gate', 'shadow', 'canary', 'promoted',
    'probation', 'serving', 'quality']);
  assert.deepEqual(g.edges.at(-1), ['quality', 'data']);
  assert.equal(g.edges.length, g.nodes.length);
  assert.ok(!graphOf(app({ plan: { data: [], stages: [{ stage: 'gate' }] } }), []).nodes.some((n) => n.id === 'canary'));
});

test('states of the graph', () => {
  let s = states(app({ cycle: { state: 'training', run: 7 } }));
  assert.equal(s.train, 'active');
  assert.equal(s.gate, 'todo');
  assert.equal(s.serving, 'good');
  s = states(app({ cycle: { state: 'releasing', stage: 'canary', share: 0.1 } }));
  assert.deepEqual([s.shadow, s.canary, s.promoted], ['done', 'active', 'todo']);
  assert.equal(states(app({ cycle: { state: 'releasing', stage: 'probation' } })).promoted, 'done');
  assert.equal(states(app({ champion: null })).serving, 'todo');
  assert.equal(states(app({ degraded: true })).quality, 'bad');
  assert.equal(states(app({ drift: true })).quality, 'waits');
});

test('where a cycle failed shows until the next one', () => {
  const begin = [['trigger.fired'], ['run.started', { step: 'train' }]];
  assert.equal(states(app(), story(...begin, ['cycle.failed'])).train, 'bad');
  assert.equal(states(app(), story(...begin, ['gate.refused'])).gate, 'bad');
  const back = story(...begin, ['stage.entered', { stage: 'canary' }], ['version.rolled_back']);
  assert.equal(states(app(), back).canary, 'bad');
  assert.equal(states(app({ cycle: { state: 'training' } }), back).canary, 'todo');
  const fine = story(...begin, ['gate.passed'], ['version.promoted']);
  assert.deepEqual([states(app(), fine).shadow, states(app(), fine).promoted], ['off', 'done']);
});

test('words', () => {
  assert.equal(cycleText({ state: 'idle' }), 'idle');
  assert.equal(cycleText({ state: 'training', run: 12 }), 'training (run 12)');
  assert.equal(cycleText({ state: 'releasing', version: 5, stage: 'canary', share: 0.1 }), 'releasing v5: canary at 10%');
  assert.equal(deadlineText(70e6, 10e6), 'decided in 1 min');
  assert.equal(deadlineText(10e6, 70e6), 'overdue by 1 min');
  assert.deepEqual(health(app({ degraded: true, drift: true })), ['bad', 'degraded']);
});

test('what a person can do', () => {
  const can = (a) => actionsOf(a).filter(([, , , no]) => !no).map(([v]) => v);
  assert.deepEqual(can(app()), ['train', 'pause', 'freeze', 'rollback']);
  assert.deepEqual(can(app({ previous: null })), ['train', 'pause', 'freeze']);
  assert.deepEqual(can(app({ loop: 'paused' })), ['train', 'resume', 'freeze', 'rollback']);
  assert.deepEqual(can(app({ loop: 'frozen' })), ['resume', 'rollback']);
  assert.deepEqual(can(app({ cycle: { state: 'releasing', stage: 'approval' } })), ['approve', 'reject', 'pause', 'freeze',
    'rollback']);
  const needs = Object.fromEntries(actionsOf(app({ cycle: { state: 'releasing', stage: 'approval' } }))
    .map(([v, , r]) => [v, r]));
  assert.ok(needs.reject && needs.rollback && !needs.approve && !needs.pause);
});

test('columns: one row a bucket, gaps broken, variants in a known order', () => {
  const p = (t, version, role, requests) => ({ start_us: t * 1e6, version, role, requests });
  const { x, variants } = columns([p(10, 1, 'champion', 5), p(20, 1, 'champion', 6), p(20, 2, 'canary', 2),
    p(60, 2, 'champion', 9)], 10e6);
  assert.deepEqual(x, [10, 20, 30, 60]);
  assert.deepEqual(variants.map((v) => v.name), ['v2 champion', 'v1 champion', 'v2 canary']);
  assert.deepEqual(column(variants[1], (r) => r.requests), [5, 6, null, null]);
  assert.equal(last([1, null, 3, null]), 3);
  assert.equal(last([null]), null);
  const s = shares(variants);
  assert.equal(s[1].share[1], 6 / 8);
  assert.equal(s[2].share[1], 2 / 8);
  assert.equal(s[0].share[2], null);
});

test('what is wrong comes in words, worst first, with what can be done', () => {
  const idle = { number: 1, state: 'idle' }, well = { app: 'a', champion: 3, previous: 2, loop: 'running', failures: 0, cycle: idle };
  assert.deepEqual(troubles(well), []);
  const accuracy = { objective: 'accuracy', target: 'at least 0.9', value: 0.7, holds: false, lower: 0.65, upper: 0.75, labelled: 1000 };
  const bad = { ...well, degraded: true, drift: true, loop: 'paused', held_by: 'ines', held_reason: 'a look',
    objectives: [accuracy, { objective: 'latency_p99', target: 'at most 5ms', value: 9000, holds: false }],
    quality: { accuracy: [{ version: 2, labelled: 9, estimate: 0.93 }], drift: { moved: ['x', 'y', 'z', 'u'].map((name, i) =>
      ({ name, effect: i % 2 ? -i : i })) } } };
  const got = troubles(bad);
  assert.deepEqual(got.map(([kind]) => kind), ['bad', 'bad', 'waits', 'waits']);
  assert.match(got[0][1], /^v3 is worse than promised: accuracy 70.0% \(65.0% to 75.0%, 1,000 labels\), promised is at least 0.9.$/);
  assert.match(got[0][2], /“Train now”.*“Roll back” gives v2, right on 93%/);
  assert.match(got[1][1], /^Latency p99 9.00 ms/);
  assert.match(got[2][1], /paused by ines: a look/);
  assert.match(got[3][1], /^The traffic changed: u, z, y and 1 more\.$/);
  // What is under way already is said, and not asked for.
  const busy = troubles({ ...bad, cycle: { number: 2, state: 'releasing', version: 4, stage: 'canary', share: 0.2 } });
  assert.equal(busy[0][2], 'Under way: releasing v4: canary at 20%.');
  assert.deepEqual(troubles({ ...well, failures: 1, cycle: { ...idle, state: 'releasing', stage: 'approval', version: 4 } })
    .map(([kind, what]) => [kind, what]), [['bad', '1 cycle failed.'], ['waits', 'v4 waits for a person.']]);
  const waits = { ...well, site: { file: 'site.yaml', forbids: null }, cycle: { ...idle, state: 'training', waits: 'waits for its turn' } };
  assert.deepEqual(troubles(waits).map(([kind, what]) => [kind, what]), [['waits', 'Cycle 1 waits for its turn.']]);
  assert.equal(troubles({ ...waits, cycle: { ...waits.cycle, version: 4 } })[0][1], 'v4 waits for its turn.');
  const forbidden = troubles({ ...waits, site: { file: 'site.yaml', forbids: 'app.yaml:9:3: too much' } });
  assert.deepEqual(forbidden.map(([kind, what]) => [kind, what]), [['bad', 'The site forbids this app: app.yaml:9:3: too much.']]);
  // A spent budget: said, and there is a button for it.
  const spent = { ...well, automation_off: 'the budget of accuracy was spent at 03:00 UTC and nobody has resumed it' };
  assert.match(troubles(spent)[0].join(' '), /^bad Nothing is done by itself: the budget of accuracy.*“Resume”/);
  assert.deepEqual(actionsOf(spent).map(([verb]) => verb), ['train', 'resume', 'pause', 'freeze', 'rollback']);
});
