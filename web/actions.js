// The accelerator and the brake: buttons, and a dialog that asks once more.

import { html, useEffect, useRef, useState } from '/vendor/preact.js';
import { act, name, setName } from '/api.js';
import { refresh } from '/live.js';
import { actionsOf } from '/loop.js';

const MEANS = {
  train: (a) => `Starts a training of ${a.app} now.`,
  pause: () => 'Nothing starts by itself any more. What serves goes on serving; what is under way goes on.',
  resume: () => 'The loop runs by itself again.',
  freeze: () => 'Nothing changes at all: what is under way stops where it is. What serves goes on serving.',
  approve: (a) => `v${a.cycle.version} goes on to its next stage.`,
  reject: (a) => `The release of v${a.cycle.version} ends; what serves goes on serving.`,
  rollback: (a) => (a.cycle.state === 'releasing' ? `The release of v${a.cycle.version} is taken back.`
    : `v${a.previous} serves again instead of v${a.champion}.`),
};

function Ask({ app, verb, label, needsReason, close }) {
  const dialog = useRef(null);
  const [reason, setReason] = useState('');
  const [who, setWho] = useState(name());
  const [error, setError] = useState('');
  const [busy, setBusy] = useState(false);
  useEffect(() => dialog.current.showModal(), []);
  const submit = async (e) => {
    e.preventDefault();
    setBusy(true);
    setName(who);
    try {
      await act(app.app, verb, reason.trim() ? { reason: reason.trim() } : {});
      dialog.current.close();
      refresh();
    } catch (x) {
      setError(x.message);
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} aria-labelledby="ask-title" onClose=${close}>
    <form onSubmit=${submit}>
      <h2 id="ask-title">${label}: ${app.app}</h2>
      <p>${MEANS[verb](app)}</p>
      <label for="ask-reason">Reason${needsReason ? '' : ' (may be left out)'}</label>
      <textarea id="ask-reason" rows="2" maxlength="900" required=${needsReason} value=${reason}
        onInput=${(e) => setReason(e.target.value)}></textarea>
      <label for="ask-who">Your name, for the log (may be left out)</label>
      <input id="ask-who" maxlength="60" value=${who} onInput=${(e) => setWho(e.target.value)} />
      ${error && html`<p class="error" role="alert">▲ ${error}</p>`}
      <div class="row end">
        <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
        <button class="primary" disabled=${busy || (needsReason && !reason.trim())}>${label}</button>
      </div>
    </form></dialog>`;
}

export function Actions({ app }) {
  const [asked, ask] = useState(null);
  return html`<div class="actions" role="group" aria-label="What you can do">
    ${actionsOf(app).map(([verb, label, needsReason, whyNot]) => html`<button key=${verb} data-verb=${verb}
      class=${verb === 'approve' ? 'primary' : verb === 'rollback' || verb === 'reject' ? 'danger' : ''}
      aria-disabled=${whyNot ? 'true' : 'false'} title=${whyNot || MEANS[verb](app)}
      onClick=${() => !whyNot && ask([verb, label, needsReason])}>${label}</button>`)}
    ${asked && html`<${Ask} app=${app} verb=${asked[0]} label=${asked[1]} needsReason=${asked[2]}
      close=${() => ask(null)} />`}
  </div>`;
}
