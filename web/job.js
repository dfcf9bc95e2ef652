// What is told of a job of ranks. Pure.

import * as f from '/format.js';

const WORDS = { starting: 'waiting for all ranks to begin', running: 'running', ended: 'ended' };

// As [name, text], in the order of a person's questions.
export function facts(job, running) {
  const rate = (what) => running && job[`${what}_per_s`] > 0 && ` (${f.short(job[`${what}_per_s`])}/s)`;
  const sums = job.steps > 0 ? ['steps', 'samples'] : ['operations', 'samples'];
  return [
    ['Ranks', `${job.np}, ${WORDS[running ? job.state : 'ended'] ?? job.state}${
      job.restart > 0 ? `, restart ${job.restart}` : ''}${
      job.epoch > 1 ? `, epoch ${job.epoch}: ${job.epochs.reduce((n, e) => n + e.lost, 0)} lost so far` : ''}`],
    ...sums.filter((what) => job[what] > 0).map((what) =>
      [what[0].toUpperCase() + what.slice(1), `${f.count(job[what])}${rate(what) || ''}`]),
    ...(job.bytes > 0 ? [['Sent', `${f.bytes(job.bytes)}${
      running && job.bytes_per_s > 0 ? ` (${f.bytes(job.bytes_per_s)}/s)` : ''}`]] : []),
    ...(running && job.slowest ? [['Slowest', `rank ${job.slowest.rank} on ${job.slowest.host}: the others wait for it ${
      f.percent(job.slowest.waits, 0)} of the time`]] : []),
  ];
}
