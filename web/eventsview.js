import { html } from '/vendor/preact.js';
import { Timeline } from '/timeline.js';

export default () => html`<main id="main" tabindex="-1"><h1>Events</h1>
  <${Timeline} height=${Math.max(300, innerHeight - 220)} /></main>`;
