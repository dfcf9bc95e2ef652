// An app's figures over time: rate, latency, shares, accuracy.

import { html, useMemo, useState } from '/vendor/preact.js';
import { get } from '/api.js';
import { Chart, LOOKS, lookOf, markLine } from '/chart.js';
import * as f from '/format.js';
import { Card, Empty, useAsk } from '/parts.js';
import { column, columns, last, shares } from '/series.js';

const SPANS = [['15 min', 9e8], ['1 h', 3.6e9], ['6 h', 2.16e10], ['24 h', 8.64e10], ['7 d', 6.048e11], ['30 d', 2.592e12]];
const POINTS = 240;

const zeroUp = (u, lo, hi) => [0, hi > 0 ? hi * 1.1 : 1];
const unit = () => [0, 1.05];

function useSeries(what, deployment, spanUs, points, beat) {
  return useAsk(async (signal) => {
    const to = Date.now() * 1000;
    return get(`/deployments/${encodeURIComponent(deployment)}/${what}`,
      { from_us: Math.round(to - spanUs), to_us: Math.round(to), points }, signal);
  }, [what, deployment, spanUs, points, beat]);
}

// What is the same for every chart of variants: look and last value.
function lines(variants, value, format, more = {}) {
  return variants.map((v) => {
    const values = value(v);
    const now = last(values);
    return { label: v.name, values, said: now == null ? '' : format(now), tag: `v${v.version}`,
      points: values.length < 60, ...lookOf(v.version, v.role), ...more };
  });
}

function Lines({ label, x, list, format, range, draw }) {
  const data = useMemo(() => [x, ...list.map((l) => l.values)], [list]);
  const spec = { range, format, draw, series: list.map(({ values, ...s }) => s) };
  return html`<${Chart} label=${label} spec=${spec} data=${data} />`;
}

function Traffic({ got, target }) {
  const { x, variants } = useMemo(() => columns(got.points, got.bucket_us), [got]);
  const perS = (n) => `${f.short(n)}/s`;
  const rate = useMemo(() => lines(variants, (v) => column(v, (p) => (p.covered_us ? 1e6 * p.requests / p.covered_us : 0)), perS), [got]);
  const failed = variants.reduce((n, v) => n + v.rows.reduce((m, p) => m + (p?.failed ?? 0), 0), 0);
  const answered = useMemo(() => variants.filter((v) => v.role !== 'shadow'), [got]);
  const p99 = useMemo(() => lines(answered, (v) => column(v, (p) => p.p99_us), f.latency)
    .map((l) => ({ ...l, label: `${l.label} p99` })), [got]);
  const p50 = useMemo(() => lines(answered.slice(0, 1), (v) => column(v, (p) => p.p50_us), f.latency, { width: 1, points: false })
    .map((l) => ({ ...l, label: `${l.label} p50`, tag: '', ...LOOKS[4] })), [got]);
  const share = useMemo(() => lines(shares(variants), (v) => v.share, (s) => f.percent(s, 0)), [got]);
  return html`
    <${Card} title="Requests" id="h-rate" extra=${html`<span class=${failed ? 'error' : 'dim'}>${failed ? '▲ ' : ''}${
      f.count(failed)} failed</span>`}>
      <${Lines} label="Requests a second" x=${x} list=${rate} format=${perS} range=${zeroUp} /><//>
    <${Card} title="Latency" id="h-latency">
      <${Lines} label="Latency" x=${x} list=${[...p99, ...p50]} format=${f.latency} range=${zeroUp}
        draw=${target ? markLine(target, '--waits', 'objective') : null} /><//>
    <${Card} title="Share of the traffic" id="h-share">
      <${Lines} label="Share of the traffic" x=${x} list=${share} format=${(s) => f.percent(s, 0)} range=${unit} /><//>`;
}

function Accuracy({ got, atLeast }) {
  const { x, variants } = useMemo(() => columns(got.points, got.bucket_us), [got]);
  // The two that matter most get their intervals as bands: the live one and what runs in its shadow.
  const spec = useMemo(() => {
    const series = [], bands = [], data = [x];
    variants.slice(0, 4).forEach((v, i) => {
      const look = lookOf(v.version, v.role), value = column(v, (p) => p.right / p.labelled), now = last(value);
      series.push({ tag: `v${v.version}`, label: v.role === 'shadow' ? `v${v.version} in shadow` : `v${v.version}`, ...look,
        said: now == null ? '' : f.percent(now), points: x.length < 60 });
      data.push(value);
      if (i > 1) return;
      series.push({ label: '', colour: look.colour, width: 0, dash: [] }, { label: '', colour: look.colour, width: 0,
        dash: [] });
      data.push(column(v, (p) => p.upper), column(v, (p) => p.lower));
      bands.push([series.length - 1, series.length, `${look.colour}-band`]);
    });
    return { series, bands, data };
  }, [got]);
  const drawn = variants.slice(0, 4).flatMap((v) => column(v, (p) => p.right / p.labelled));
  const low = Math.min(...drawn.filter((y) => y != null), atLeast ?? 1);
  const floor = Math.max(0, Math.floor(low * 10 - 0.5) / 10);
  return html`<${Chart} label="Accuracy by labels" data=${spec.data} spec=${{ ...spec, height: 220,
    range: () => [floor, 1.02], format: (y) => f.percent(y, 0),
    draw: atLeast ? markLine(atLeast, '--waits', `objective ${f.percent(atLeast, 0)}`) : null }} />`;
}

const numberIn = (text) => Number(/[\d.]+/.exec(text ?? '')?.[0]) || null;

export function Charts({ app, beat }) {
  const [span, setSpan] = useState(9e8);
  // A bucket shorter than a window would be empty or too full.
  const points = Math.max(1, Math.min(POINTS, Math.floor(span / (app.plan?.window_us ?? 6e7))));
  const windows = useSeries('windows', app.deployment, span, points, beat);
  const outcomes = useSeries('outcomes', app.deployment, span, points, beat);
  const promised = app.objectives?.find((o) => o.objective === 'accuracy');
  const none = windows.data && !windows.data.points.length;
  return html`<div class="row spans" role="group" aria-label="Span of the charts">
      ${SPANS.map(([label, us]) => html`<button key=${label} aria-pressed=${us === span ? 'true' : 'false'}
        onClick=${() => setSpan(us)}>${label}</button>`)}</div>
    ${windows.error && html`<p class="error">▲ ${windows.error}</p>`}
    ${none && html`<${Card} title="Traffic" id="h-none"><${Empty}>No traffic in this span. Ask for a prediction:
      <code> POST /v2/models/${app.deployment}/infer</code>, and it shows here when its window closes.<//><//>`}
    <div class="grid">
      ${windows.data && !none && html`<${Traffic} got=${windows.data} />`}
      <${Card} title="Accuracy, by labels" id="h-accuracy" wide>
        ${outcomes.error && html`<p class="error">▲ ${outcomes.error}</p>`}
        ${outcomes.data && !outcomes.data.points.length && html`<${Empty}>No labels in this span. Send what turned out to
          be true: <code>overtake labels import</code> or <code>POST /api/v1/deployments/${app.deployment}/labels</code>.<//>`}
        ${outcomes.data?.points.length > 0 && html`<${Accuracy} got=${outcomes.data}
          atLeast=${promised ? numberIn(promised.target) : null} />`}
      <//>
    </div>`;
}
