// Runs of an app, and a run's output as it comes.

import { html, useEffect, useRef, useState } from '/vendor/preact.js';
import { get, post, stream } from '/api.js';
import * as f from '/format.js';
import { Badge, Card, Empty, useAsk } from '/parts.js';

const KINDS = { succeeded: 'good', running: 'active', queued: 'plain', failed: 'bad', cancelled: 'waits' };
const LOG_MAX = 400000; // characters kept; the rest is in the file and in `overtake logs`

export function Runs({ app, beat }) {
  const { data, error } = useAsk((s) => get('/runs', { app: app.app, limit: 12 }, s), [app.app, beat]);
  return html`<${Card} title="Runs" id="h-runs">
    ${error && html`<p class="error">▲ ${error}</p>`}
    ${data && !data.runs.length && html`<${Empty}>No run yet.<//>`}
    ${data?.runs.length > 0 && html`<table><caption class="hidden">Runs, newest first</caption>
      <thead><tr><th>Run</th><th>Step</th><th>State</th><th>Took</th></tr></thead>
      <tbody>${data.runs.map((r) => html`<tr key=${r.run}><td><a href="#/runs/${r.run}">run ${r.run}</a></td>
        <td>${r.step}</td><td><${Badge} kind=${KINDS[r.state] ?? 'plain'}>${r.state}<//></td>
        <td>${r.started_us ? f.took((r.ended_us ?? Date.now() * 1000) - r.started_us) : '–'}</td></tr>`)}</tbody></table>`}
  <//>`;
}

function Output({ run, ended }) {
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
    stream(`/runs/${run}/log?follow=1`, (bytes) => {
      all += decoder.decode(bytes, { stream: true });
      if (all.length > LOG_MAX * 1.2) all = all.slice(-LOG_MAX);
      queued ||= requestAnimationFrame(show);
    }, stop.signal).then(
      () => { setState('whole'); ended(); },
      (e) => !stop.signal.aborted && setState(`broke off: ${e.message}`));
    return () => stop.abort();
  }, [run]);
  useEffect(() => {
    if (atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  return html`<p class="dim" role="status">${state === 'reading' ? '● follows live' : state === 'whole' ? 'it has ended; this is its output' : `▲ ${state}`}${
    text.length >= LOG_MAX ? `; the last part is shown, all of it: overtake logs ${run}` : ''}</p>
    <pre class="log" ref=${box} tabindex="0" aria-label="Output of run ${run}" onScroll=${() => {
      const b = box.current;
      atEnd.current = b.scrollTop + b.clientHeight > b.scrollHeight - 30;
    }}>${text || (state === 'whole' ? '(it wrote nothing)' : '')}</pre>`;
}

export function RunPage({ run, beat }) {
  const [again, setAgain] = useState(0);
  const [said, say] = useState('');
  const { data: r, error } = useAsk((s) => get(`/runs/${run}`, null, s), [run, beat, again]);
  const cancel = () => post(`/runs/${run}/cancel`).then(() => say('asked to end'), (e) => say(e.message));
  return html`<main id="main" tabindex="-1">
    <h1>Run ${run}${r ? `: ${r.step}` : ''}</h1>
    ${error && html`<p class="error" role="alert">▲ ${error}</p>`}
    ${r && html`<p><${Badge} kind=${KINDS[r.state] ?? 'plain'}>${r.state}<//> of <a href="#/apps/${
        encodeURIComponent(r.app)}">${r.app}</a>, ${r.started_us ? `started ${f.time(r.started_us)}` : 'not started'}${
        r.ended_us ? `, took ${f.took(r.ended_us - r.started_us)}` : ''}</p>
      ${r.result?.text && html`<p>${r.result.text}</p>`}
      ${r.state === 'running' && html`<p><button class="danger" onClick=${cancel}>End this run</button> ${said}</p>`}`}
    ${!error && html`<${Output} run=${run} ended=${() => setAgain((n) => n + 1)} />`}
  </main>`;
}
