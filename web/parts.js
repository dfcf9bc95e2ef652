// Small pieces that several views share.

import { Component, html, useEffect, useState } from '/vendor/preact.js';
import * as f from '/format.js';

export const ICONS = { good: '✓', bad: '▲', waits: '◆', active: '●', plain: '○' };

// A state that is read by icon and word as well as by colour.
export const Badge = ({ kind = 'plain', children }) =>
  html`<span class="badge ${kind}"><span aria-hidden="true">${ICONS[kind]}</span> ${children}</span>`;

export const Card = ({ title, id, wide, extra, children }) =>
  html`<section class="card ${wide ? 'wide' : ''}" aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${extra}</header>${children}</section>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

// The time now, once a second, for what counts down.
export function useNow() {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const t = setInterval(() => set(Date.now()), 1000);
    return () => clearInterval(t);
  }, []);
  return now;
}

export const Ago = ({ us }) => {
  const now = useNow();
  return us ? html`<time title=${new Date(us / 1000).toISOString()}>${f.span(now * 1000 - us)}</time>` : null;
};

// A view that fails must not take the others with it.
export class Guard extends Component {
  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  render({ what, children }, { error }) {
    return error ? html`<p class="error" role="alert">▲ ${what} cannot be shown: ${error.message}</p>` : children;
  }
}

// Asks with `ask(signal)` when one of `keys` changes; keeps the last answer meanwhile.
export function useAsk(ask, keys) {
  const [got, set] = useState({ data: null, error: '' });
  useEffect(() => {
    const stop = new AbortController();
    ask(stop.signal).then(
      (data) => !stop.signal.aborted && set({ data, error: '' }),
      (e) => !stop.signal.aborted && set((was) => ({ ...was, error: e.message })));
    return () => stop.abort();
  }, keys);
  return got;
}
