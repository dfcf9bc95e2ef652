// A run: how it goes, how it ended, and its output as it comes.

import { html, useEffect, useRef, useState } from '/vendor/preact.js';
import { get, post, stream } from '/api.js';
import * as f from '/format.js';
import { Badge, useAsk } from '/parts.js';
import { Ranks } from '/ranks.js';
import { Checkpoints } from '/checkpoints.js';
import { KINDS } from '/runs.js';

const LOG_MAX = 400000; // characters kept; the rest is in the file and in `overtake logs`

function Output({ run, rank, ended }) {
  const box = useRef(null);
  const [text, setText] = useState('');
  const [state, setState] = useState('reading');
  const atEnd = useRef(true);
  useEffect(() => {
    const stop = new AbortController(), decoder = new TextDecoder();
    let all = '', queued = 0;
    const show = () => {
      queued = 0;
      setText(all);
    };
    setText('');
    setState('reading');
    stream(`/runs/${run}/log?follow=1${rank == null ? '' : `&rank=${rank}`}`, (bytes) => {
      all += decoder.decode(bytes, { stream: true });
      if (all.length > LOG_MAX * 1.2) all = all.slice(-LOG_MAX);
      queued ||= requestAnimationFrame(show);
    }, stop.signal).then(
      () => { setState('whole'); ended(); },
      (e) => !stop.signal.aborted && setState(`broke off: ${e.message}`));
    return () => stop.abort();
  }, [run, rank]);
  useEffect(() => {
    if (atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  return html`<p class="dim" role="status">${state === 'reading' ? '● follows live' : state === 'whole' ? 'it has ended; this is its output' : `▲ ${state}`}${
    text.length >= LOG_MAX ? `; the last part is shown, all of it: overtake logs ${run}${rank == null ? '' : ` --rank ${rank}`}` : ''}</p>
    <pre class="log" ref=${box} tabindex="0" aria-label="Output of ${rank == null ? `run ${run}` : `rank ${rank}`}" onScroll=${() => {
      const b = box.current;
      atEnd.current = b.scrollTop + b.clientHeight > b.scrollHeight - 30;
    }}>${text || (state === 'whole' ? '(it wrote nothing)' : '')}</pre>`;
}

function RunPage({ run, beat }) {
  const [again, setAgain] = useState(0);
  const [rank, setRank] = useState(null);
  const [said, say] = useState('');
  const { data: r, error } = useAsk((s) => get(`/runs/${run}`, null, s), [run, beat, again]);
  const runs = r?.state === 'running';
  useEffect(() => { // how ranks go is no event
    const t = runs && r.step === 'train' && setInterval(() => setAgain((n) => n + 1), 1000);
    return () => clearInterval(t);
  }, [runs]);
  const cancel = () => post(`/runs/${run}/cancel`).then(() => say('asked to end'), (e) => say(e.message));
  return html`<main id="main" tabindex="-1">
    <h1>Run ${run}${r ? `: ${r.step}` : ''}</h1>
    ${error && html`<p class="error" role="alert">▲ ${error}</p>`}
    ${r && html`<p><${Badge} kind=${KINDS[r.state] ?? 'plain'}>${r.state}<//> of <a href="#/apps/${
        encodeURIComponent(r.app)}">${r.app}</a>, ${r.started_us ? `started ${f.time(r.started_us)}` : 'not started'}${
        r.ended_us ? `, took ${f.took(r.ended_us - r.started_us)}` : ''}</p>
      ${r.result?.text && html`<p>${r.result.text}</p>`}
      ${r.resumed_from && html`<p>It went on from step ${r.resumed_from.step}, which <a href="#/runs/${
        r.resumed_from.run}">run ${r.resumed_from.run}</a> had kept.</p>`}
      ${runs && html`<p><button class="danger" onClick=${cancel}>End this run</button> ${said}</p>`}`}
    ${r?.job && html`<${Ranks} job=${r.job} running=${runs} rank=${rank} choose=${setRank} />`}
    ${r?.step === 'train' && html`<${Checkpoints} run=${run} again=${again} />`}
    ${(r || !error) && html`<${Output} run=${run} rank=${rank} ended=${() => setAgain((n) => n + 1)} />`}
  </main>`;
}

export default ({ live, run }) => html`<${RunPage} key=${run} run=${run} beat=${live.beat} />`;
