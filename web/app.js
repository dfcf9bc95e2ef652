// The page: what is in the address bar decides what is shown.

import { html, render, useEffect, useState } from '/vendor/preact.js';
import { hasToken, takeToken } from '/api.js';
import * as f from '/format.js';
import { logOut, start, state, useLive, watchApp } from '/live.js';
import { cycleText, health } from '/loop.js';
import { Login } from '/login.js';
import { Ago, Badge, Empty, Guard, useNow } from '/parts.js';

takeToken();
if (hasToken()) state.login = 'in';

// The views of an app bring charts and the graph with them: fetched when one is opened.
const views = {};
async function load(name, path) {
  views[name] ??= await import(path);
}

function routeOf(hash) {
  const [, kind, name, ...rest] = hash.split('/');
  if (kind === 'apps' && name && !rest.length) return { view: 'app', name: decodeURIComponent(name) };
  if (kind === 'runs' && /^\d+$/.test(name ?? '')) return { view: 'run', run: Number(name) };
  if (kind === 'events') return { view: 'events' };
  return { view: 'apps' };
}

function useRoute() {
  const [route, set] = useState(routeOf(location.hash));
  useEffect(() => {
    set(routeOf(location.hash)); // it may have changed since the first drawing, unheard
    const changed = () => {
      takeToken();
      set(routeOf(location.hash));
      scrollTo(0, 0);
      document.getElementById('main')?.focus({ preventScroll: true });
    };
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return route;
}

function AppCard({ app }) {
  const [kind, word] = health(app);
  return html`<li><a class="card app" href="#/apps/${encodeURIComponent(app.app)}" data-app=${app.app}>
    <h2>${app.app}</h2>
    <p>${app.champion ? html`<b>v${app.champion}</b> serves for <${Ago} us=${app.champion_since_us} />` : 'nothing serves yet'}</p>
    <p>${cycleText(app.cycle)}</p>
    <p><${Badge} kind=${kind}>${word}<//> ${app.loop !== 'running' && html`<${Badge} kind="waits">${app.loop}<//>`}
      ${app.cycle.stage === 'approval' && html`<${Badge} kind="waits">waits for approval<//>`}</p>
  </a></li>`;
}

const rank = (a) => (a.degraded ? 0 : a.cycle.stage === 'approval' ? 1 : a.drift || a.loop !== 'running' ? 2 : 3);

function Apps({ live }) {
  const [find, setFind] = useState('');
  if (!live.apps) return html`<main id="main" tabindex="-1"><h1>Apps</h1><p class="dim">asking …</p></main>`;
  const list = live.apps.filter((a) => a.app.includes(find)).sort((a, b) => rank(a) - rank(b));
  return html`<main id="main" tabindex="-1">
    <div class="row"><h1>Apps</h1>${live.apps.length > 6 && html`<label for="find">Find</label>
      <input id="find" type="search" value=${find} onInput=${(e) => setFind(e.target.value)} />`}</div>
    ${!live.apps.length && html`<div class="card"><${Empty}>No app yet. In the folder of a training program:<//>
      <pre>overtake init train.py     # writes a first app.yaml
overtake apply app.yaml    # makes it known here</pre></div>`}
    ${live.apps.length > 0 && !list.length && html`<${Empty}>No app is called so.<//>`}
    <ul class="apps">${list.slice(0, 200).map((a) => html`<${AppCard} key=${a.app} app=${a} />`)}</ul>
    ${list.length > 200 && html`<p class="dim">${f.count(list.length - 200)} more; write a part of the name.</p>`}
  </main>`;
}

// Shows a view of another file; its code is fetched once.
function Later({ name, path, ...more }) {
  const [, ready] = useState(0);
  const [error, fail] = useState('');
  useEffect(() => {
    load(name, path).then(() => ready(1), (e) => fail(e.message));
  }, [name]);
  if (error) return html`<main id="main" tabindex="-1"><p class="error">▲ ${error}; load the page again</p></main>`;
  const View = views[name]?.default;
  return View ? html`<${View} ...${more} />` : html`<main id="main" tabindex="-1"><p class="dim">…</p></main>`;
}

function Away({ live }) {
  const now = useNow();
  if (live.link !== 'away') return null;
  return html`<div class="away" role="alert">▲ The control plane does not answer since ${
    f.span((now - live.since) * 1000)}. What serves goes on serving. What is shown is old; this page tries again by
    itself.</div>`;
}

function Head({ live, route }) {
  const here = (view) => (route.view === view ? 'page' : undefined);
  const word = { live: ['good', 'live'], connecting: ['plain', 'connecting'], away: ['bad', 'away'] }[live.link];
  return html`<header class="top">
    <a class="brand" href="#/">Overtake</a>
    <nav aria-label="Main"><a href="#/" aria-current=${here('apps')}>Apps</a>
      <a href="#/events" aria-current=${here('events')}>Events</a></nav>
    ${route.view === 'app' && html`<span class="crumb" aria-hidden="true">${route.name}</span>`}
    <span class="grow"></span>
    <span data-link=${live.link}><${Badge} kind=${word[0]}>${word[1]}<//></span>
    <button onClick=${() => logOut()}>Log out</button>
  </header>`;
}

function Page() {
  const live = useLive(), route = useRoute();
  useEffect(() => {
    watchApp(route.view === 'app' ? route.name : null);
    document.title = route.view === 'app' ? `${route.name} · Overtake` : 'Overtake';
  }, [route]);
  if (live.login === 'out') return html`<${Login} why=${live.why} />`;
  const view = {
    apps: () => html`<${Apps} live=${live} />`,
    app: () => html`<${Later} name="app" path="/appview.js" live=${live} app=${route.name} />`,
    run: () => html`<${Later} name="run" path="/runview.js" live=${live} run=${route.run} />`,
    events: () => html`<${Later} name="events" path="/eventsview.js" live=${live} />`,
  }[route.view];
  return html`<${Away} live=${live} /><${Head} live=${live} route=${route} />
    <${Guard} key=${location.hash} what="This view">${view()}<//>`;
}

const root = document.getElementById('page');
root.textContent = '';
render(html`<${Page} />`, root);
if (state.login === 'in') start();
