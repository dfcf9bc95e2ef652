// What the page says of the ranks of a training.

import assert from 'node:assert/strict';
import test from 'node:test';

import { facts } from '/job.js';

const JOB = { state: 'running', np: 4, restart: 0, steps: 1200, operations: 2400, samples: 38400, bytes: 3 << 20, steps_per_s: 12.5,
  operations_per_s: 25, samples_per_s: 400, bytes_per_s: 1 << 20, slowest: { rank: 2, host: 'b', waits: 0.345 }, ranks: [], result: null };

test('what ranks do together, while they run', () => {
  assert.deepEqual(facts(JOB, true), [['Ranks', '4, running'], ['Steps', '1,200 (12.5/s)'], ['Samples', '38,400 (400/s)'],
    ['Sent', '3.0 MiB (1.0 MiB/s)'], ['Slowest', 'rank 2 on b: the others wait for it 35% of the time']]);
});

test('afterwards there is no rate, and a state that a dead launcher left is not believed', () => {
  assert.deepEqual(facts(JOB, false), [['Ranks', '4, ended'], ['Steps', '1,200'], ['Samples', '38,400'], ['Sent', '3.0 MiB']]);
});

test('what is not told is left out', () => {
  const quiet = { ...JOB, steps: 0, steps_per_s: 0, samples: 0, bytes: 0, slowest: null };
  assert.deepEqual(facts(quiet, true), [['Ranks', '4, running'], ['Operations', '2,400 (25.0/s)']]);
  assert.deepEqual(facts({ ...quiet, operations: 0, state: 'starting', restart: 2 }, true),
    [['Ranks', '4, waiting for all ranks to begin, restart 2']]);
});
