// What the page knows, and how it stays true: one stream of events, and questions that events ask for.

import { useEffect, useState } from '/vendor/preact.js';
import { ApiError, dropToken, get, hasToken, stream } from '/api.js';
import { Events, backOff, lineCutter } from '/events.js';
import { slim } from '/kinds.js';

const FIRST_EVENTS = 1000;
const REFRESH_MS = 400; // at most so often, however many events come
const POLL_MS = 5000; // windows and evidence move without a word in the log
const SILENCE_MS = 40000; // the server speaks every 15 s

export const state = {
  login: hasToken() ? 'in' : 'out',
  why: '', // why one has to log in again
  link: 'connecting', // live, away
  since: 0, // ms: away since
  apps: null,
  app: null, // the one that is looked at, deep
  error: '',
  events: new Events(),
  beat: 0, // rises when figures should be asked for again
};

const watchers = new Set();
let queued = false;

// All changes of a frame are drawn together.
export function changed() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    for (const w of watchers) w();
  });
}

export function useLive() {
  const [, set] = useState(0);
  useEffect(() => {
    const w = () => set((n) => n + 1);
    watchers.add(w);
    return () => watchers.delete(w);
  }, []);
  return state;
}

let watched = null; // the name of the app that is looked at

export function watchApp(name) {
  if (watched === name) return;
  watched = name;
  state.app = null;
  state.error = '';
  refresh();
}

let timer = null;
let asking = false;

export function soon() {
  timer ??= setTimeout(refresh, REFRESH_MS);
}

export async function refresh() {
  clearTimeout(timer);
  timer = null;
  if (asking || state.login !== 'in') {
    if (asking) soon();
    return;
  }
  asking = true;
  const name = watched;
  try {
    const [apps, app] = await Promise.all([
      get('/apps'),
      name ? get(`/apps/${encodeURIComponent(name)}`) : null,
    ]);
    state.apps = apps.apps;
    if (name === watched) state.app = app;
    state.error = '';
    state.beat++;
  } catch (e) {
    if (e instanceof ApiError && e.status === 401) logOut(e.message);
    else if (e instanceof ApiError) state.error = e.message;
  } finally {
    asking = false;
    changed();
  }
}

export function logOut(why = '') {
  dropToken();
  stop?.abort();
  Object.assign(state, { login: 'out', why, apps: null, app: null, events: new Events() });
  changed();
}

export function logIn() {
  Object.assign(state, { login: 'in', why: '', link: 'connecting' });
  changed();
  start();
}

function away() {
  if (state.link !== 'away') Object.assign(state, { link: 'away', since: Date.now() });
  changed();
}

async function firstEvents() {
  const { events, head } = await get('/events', { limit: FIRST_EVENTS, newest: 1 });
  state.events.push(events.reverse().map(slim));
  state.events.last = Math.max(state.events.last, head.seq);
}

export async function olderEvents() {
  const { events } = await get('/events', { limit: FIRST_EVENTS, newest: 1, before: state.events.first });
  const more = events.length > 0 && state.events.prepend(events.reverse().map(slim));
  changed();
  return more;
}

let stop = null;

async function follow(signal) {
  let batch = [];
  let heard = Date.now();
  const cut = lineCutter((line) => batch.push(slim(JSON.parse(line))));
  const inner = new AbortController();
  const end = () => inner.abort();
  signal.addEventListener('abort', end);
  const guard = setInterval(() => Date.now() - heard > SILENCE_MS && end(), 5000);
  try {
    await stream(`/events/stream?after=${state.events.last}`, (bytes) => {
      heard = Date.now();
      cut(bytes);
      if (state.link !== 'live') {
        state.link = 'live';
        soon();
      }
      if (batch.length) {
        state.events.push(batch);
        batch = [];
        soon();
      }
      changed();
    }, inner.signal);
  } finally {
    clearInterval(guard);
    signal.removeEventListener('abort', end);
  }
}

export async function start() {
  stop?.abort();
  const { signal } = (stop = new AbortController());
  let tries = 0;
  while (!signal.aborted && state.login === 'in') {
    try {
      if (!state.events.last) await firstEvents();
      state.link = 'live';
      changed();
      await refresh();
      tries = 0;
      await follow(signal);
    } catch (e) {
      if (signal.aborted) return;
      if (e instanceof ApiError && e.status === 401) return logOut(e.message);
    }
    if (signal.aborted) return;
    away();
    await new Promise((done) => setTimeout(done, backOff(tries++)));
  }
}

setInterval(() => {
  if (document.visibilityState === 'visible' && state.link === 'live') refresh();
}, POLL_MS);
document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && soon());
