import { html } from '/vendor/preact.js';
import { RunPage } from '/runs.js';

export default ({ live, run }) => html`<${RunPage} key=${run} run=${run} beat=${live.beat} />`;
