// Asks for the token, once a tab.

import { html, useState } from '/vendor/preact.js';
import { ApiError, dropToken, get, setToken } from '/api.js';
import { logIn } from '/live.js';

export function Login({ why }) {
  const [text, set] = useState('');
  const [error, fail] = useState(why);
  const [busy, wait] = useState(false);
  const submit = async (e) => {
    e.preventDefault();
    wait(true);
    try {
      setToken(text);
      await get('/apps');
      logIn();
    } catch (x) {
      dropToken();
      fail(x instanceof ApiError ? x.message : 'the control plane does not answer; is `overtake up` running?');
      wait(false);
    }
  };
  return html`<main id="main" class="login" tabindex="-1">
    <h1>Overtake</h1>
    <form onSubmit=${submit}>
      <label for="token">Token of this control plane</label>
      <input id="token" type="password" autocomplete="off" spellcheck=${false} autofocus required value=${text}
        aria-describedby="token-help" aria-invalid=${error ? 'true' : 'false'} onInput=${(e) => set(e.target.value)} />
      <p id="token-help" class="dim">It is in the file <code>token</code> of the data directory;
        <code> overtake page</code> prints an address that holds it. It stays in this tab.</p>
      ${error && html`<p class="error" role="alert">▲ ${error}</p>`}
      <button class="primary" disabled=${busy || !text.trim()}>Open</button>
    </form>
  </main>`;
}
