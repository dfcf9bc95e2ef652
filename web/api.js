// Speaks with the control API. The token is in sessionStorage: it goes with the tab.

const KEY = 'overtake-token';

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The fragment never leaves the browser; it is taken out of the address bar and the history at once.
export function takeToken() {
  const m = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
  if (!m) return;
  sessionStorage.setItem(KEY, decodeURIComponent(m[1]));
  history.replaceState(null, '', location.pathname + '#/');
}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const setToken = (t) => sessionStorage.setItem(KEY, t.trim());
export const dropToken = () => sessionStorage.removeItem(KEY);

const NAME = 'overtake-name';
export const name = () => localStorage.getItem(NAME) ?? '';
export const setName = (t) => (t.trim() ? localStorage.setItem(NAME, t.trim()) : localStorage.removeItem(NAME));

function headers(more) {
  const h = { ...more };
  const token = sessionStorage.getItem(KEY);
  if (token) h.Authorization = `Bearer ${token}`;
  // A header carries bytes: names outside ASCII are sent as their UTF-8.
  if (name()) h['overtake-actor'] = String.fromCharCode(...new TextEncoder().encode(name()));
  return h;
}

async function fail(r) {
  let text = r.statusText;
  try {
    text = (await r.json()).error;
  } catch { /* not from the API: the status says it */ }
  throw new ApiError(r.status, text);
}

async function ask(path, init = {}) {
  const r = await fetch(path, { cache: 'no-store', credentials: 'omit', ...init, headers: headers(init.headers) });
  if (!r.ok) await fail(r);
  return r;
}

export async function get(path, query, signal) {
  const q = query ? '?' + new URLSearchParams(query) : '';
  return (await ask(`/api/v1${path}${q}`, { signal })).json();
}

export async function post(path, body) {
  return (await ask(`/api/v1${path}`, { method: 'POST', body: JSON.stringify(body) })).json();
}

export const act = (app, verb, more = {}) => post(`/apps/${encodeURIComponent(app)}/act`, { verb, ...more });

// Calls onBytes for each piece until the answer ends.
export async function stream(path, onBytes, signal) {
  const r = await ask(`/api/v1${path}`, { signal });
  const reader = r.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes(value);
  }
}
