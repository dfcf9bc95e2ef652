// The log as it grows. Only rows in sight are in the document, so that any number of events costs the same.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from '/vendor/preact.js';
import { get } from '/api.js';
import * as f from '/format.js';
import { FILTERS, MARKS, WORDS } from '/kinds.js';
import { olderEvents, useLive } from '/live.js';
import { Empty, useAsk } from '/parts.js';

const narrow = matchMedia('(max-width: 720px)');
const rowHeight = () => (narrow.matches ? 50 : 30); // px, as in style.css

function useRowHeight() {
  const [px, set] = useState(rowHeight());
  useEffect(() => {
    const changed = () => set(rowHeight());
    narrow.addEventListener('change', changed);
    return () => narrow.removeEventListener('change', changed);
  }, []);
  return px;
}

const SPARE = 8; // rows above and below what is in sight

function Row({ e, top, open, chosen, select, more }) {
  return html`<li class="event ${e.kind} ${chosen ? 'chosen' : ''}" style=${{ transform: `translateY(${top}px)` }} data-seq=${e.seq}
      data-type=${e.type}>
    <button tabindex="-1" onClick=${() => select(e.seq)} aria-expanded=${open ? 'true' : 'false'}>
      <time>${f.time(e.time_us)}</time>
      <span class="mark" title=${WORDS[e.kind]}><span aria-hidden="true">${MARKS[e.kind]}</span>
        <span class="hidden">${WORDS[e.kind]}</span></span>
      <span class="type">${e.type}</span><span class="object">${e.object}</span><span class="text">${more ? html`<b>${open ? '▾' : '▸'} ${f.count(more)} by now:</b> ` : ''}${e.text}</span>
    </button></li>`;
}

// What the log says later of the same change.
function Spread({ of: alarm }) {
  const { data, error } = useAsk((signal) => get('/events', { type: 'drift.spread', object: alarm.object, after: alarm.seq,
    limit: 1000 }, signal), [alarm.seq]);
  const list = (data?.events ?? []).filter((e) => e.payload?.first === alarm.seq);
  if (error) return html`<p class="error">▲ ${error}</p>`;
  return list.length > 0 && html`<h4>The same change, later</h4><ul class="bare spread">${list.map((e) =>
    html`<li key=${e.seq}><time>${f.time(e.time_us)}</time> ${e.payload.text}</li>`)}</ul>`;
}

export function Details({ seq, close }) {
  const { data, error } = useAsk((signal) => get('/events', { after: seq - 1, limit: 1 }, signal), [seq]);
  const e = data?.events[0];
  return html`<aside class="details" aria-label="Event ${seq}">
    <header><h3>Event ${seq}</h3><button onClick=${close} aria-label="Close the event">✕</button></header>
    ${error && html`<p class="error">▲ ${error}</p>`}
    ${e && html`<dl><dt>When</dt><dd>${new Date(e.time_us / 1000).toISOString()}</dd>
      <dt>What</dt><dd>${e.type}</dd><dt>Of</dt><dd>${e.object}</dd>
      <dt>By</dt><dd>${e.actor}${e.role ? ` (${e.role})` : ''}</dd>
      ${e.object.startsWith('run/') && html`<dt>Log</dt><dd><a href="#/runs/${e.object.slice(4)}">${e.object}</a></dd>`}
      </dl>
      ${e.payload?.text && html`<p>${e.payload.text}</p>`}
      ${(e.type === 'drift.detected' || e.type === 'quality.at_risk') && html`<${Spread} of=${e} />`}
      <pre tabindex="0">${JSON.stringify(e.payload, null, 2)}</pre>`}
  </aside>`;
}

function useFiltered(events, filter, scope) {
  // Events are appended in batches: only what is new goes through the filter.
  const memo = useRef({});
  return useMemo(() => {
    const m = memo.current, [, wanted] = FILTERS[filter], list = events.list;
    const fits = (e) => wanted(e) && (!scope || e.scope === scope);
    const first = list.length ? list[0].seq : 0;
    if (m.events === events && m.filter === filter && m.scope === scope && m.first === first) {
      let i = list.length;
      while (i > 0 && list[i - 1].seq > m.last) i--;
      const fresh = list.slice(i).filter(fits);
      if (fresh.length) m.out = m.out.concat(fresh);
    } else {
      m.out = list.filter(fits);
    }
    Object.assign(m, { events, filter, scope, first, last: events.last });
    return m.out;
  }, [events, events.version, filter, scope]);
}

// Newest first: index 0 is the newest.
export function Timeline({ scope, height: most = 420 }) {
  const { events } = useLive();
  const ROW = useRowHeight();
  const [filter, setFilter] = useState('story');
  const [top, setTop] = useState(0);
  const [chosen, choose] = useState(0);
  const [open, setOpen] = useState(0);
  const [older, setOlder] = useState('some');
  const box = useRef(null);
  const shown = useFiltered(events, filter, scope);
  const n = shown.length, height = Math.max(120, Math.min(most, n * ROW + 2));

  // Who has scrolled down reads: what comes on top must not move it.
  const newest = useRef(0);
  useLayoutEffect(() => {
    const was = newest.current, now = n ? shown[n - 1].seq : 0;
    newest.current = now;
    if (!was || now <= was || box.current.scrollTop < ROW) return;
    let more = 0;
    for (let i = n - 1; i >= 0 && shown[i].seq > was; i--) more++;
    box.current.scrollTop += more * ROW;
  }, [shown]);
  useEffect(() => {
    box.current.scrollTop = 0;
    newest.current = 0;
    setTop(0);
  }, [filter, scope]);

  const load = async () => {
    if (older !== 'some' || events.first <= 1) return;
    setOlder('asked');
    try {
      setOlder((await olderEvents()) ? 'some' : 'all');
    } catch {
      setOlder('some');
    }
  };
  const scroll = () => {
    setTop(box.current.scrollTop);
    if (box.current.scrollTop + box.current.clientHeight > n * ROW - 200) load();
  };
  useEffect(() => {
    if (n * ROW < most && events.list.length) load();
  }, [n, filter, older]);

  const at = shown.findIndex((e) => e.seq === chosen);
  const key = (e) => {
    const step = { ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[e.key];
    if (e.key === 'Enter' && at >= 0) return setOpen(chosen);
    if (e.key === 'Escape') return setOpen(0);
    const to = e.key === 'Home' ? n - 1 : e.key === 'End' ? 0
      : step ? Math.max(0, Math.min(n - 1, at < 0 ? n - 1 : at + step)) : -1;
    if (to < 0 || !n) return undefined;
    e.preventDefault();
    choose(shown[to].seq);
    const y = (n - 1 - to) * ROW, view = box.current;
    if (y < view.scrollTop) view.scrollTop = y;
    else if (y + ROW > view.scrollTop + view.clientHeight) view.scrollTop = y + ROW - view.clientHeight;
    return undefined;
  };

  const from = Math.max(0, Math.floor(top / ROW) - SPARE);
  const to = Math.min(n, Math.ceil((top + height) / ROW) + SPARE);
  const rows = [];
  for (let i = from; i < to; i++) {
    const e = shown[n - 1 - i];
    rows.push(html`<${Row} key=${e.seq} e=${e} top=${i * ROW} open=${open === e.seq} chosen=${chosen === e.seq}
      more=${events.more.get(e.seq)} select=${(seq) => { choose(seq); setOpen(open === seq ? 0 : seq); }} />`);
  }
  const current = at >= 0 ? shown[at] : null;
  return html`<div class="timeline">
    <div class="row">
      <label for="filter">Show</label>
      <select id="filter" value=${filter} onChange=${(e) => setFilter(e.target.value)}>
        ${Object.entries(FILTERS).map(([k, [label]]) => html`<option value=${k}>${label}</option>`)}
      </select>
      <span class="dim" data-shown=${n}>${f.count(n)} of ${f.count(events.list.length)} here
        ${older === 'all' ? ' (older ones: overtake events)' : ''}</span>
    </div>
    <div class="split ${open ? 'open' : ''}">
      <div class="scroll" ref=${box} style=${{ height: `${height}px` }} tabindex="0" role="group" onScroll=${scroll}
        onKeyDown=${key} aria-label="Timeline, newest first. Arrows choose, Enter opens.">
        ${n === 0 && html`<${Empty}>Nothing of this kind yet. What happens shows here as it happens.<//>`}
        <ul style=${{ height: `${n * ROW}px` }}>${rows}</ul>
      </div>
      ${open > 0 && html`<${Details} seq=${open} close=${() => setOpen(0)} />`}
    </div>
    <p class="hidden" aria-live="polite">${current && `${WORDS[current.kind]} ${current.type} ${current.text}`}</p>
  </div>`;
}
